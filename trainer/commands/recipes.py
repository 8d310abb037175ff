"""python -m trainer recipes: the recipes there are, or the fields of one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from trainer import recipes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `recipes`."""
    parser.add_argument(
        "recipe", nargs="?", metavar="NAME|TOML", help="one recipe, field by field"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="as of train"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print them; the exit code."""
    if arguments.recipe is None:
        for name, recipe in recipes.RECIPES.items():
            epochs = " + ".join(str(stage.epochs) for stage in recipe.stages)
            size = f"{recipe.image_size} × {recipe.image_size}"
            print(f"{name:16} {size:10} epochs {epochs}")
        return 0
    chosen = recipes.load(arguments.recipe, arguments.set)
    print("\n".join(_lines(recipes.plain(chosen))))
    return 0


def _lines(document: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The document as TOML, each field with its whole name, as --set takes it."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{above}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables = ", ".join(
                "{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in each.items()) + "}"
                for each in value
            )
            yield f"{above}{name} = [{tables}]"
        else:
            yield f"{above}{name} = {json.dumps(value)}"
