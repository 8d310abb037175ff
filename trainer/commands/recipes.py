"""python -m trainer recipes: the recipes there are, or the fields of one."""

from __future__ import annotations

import argparse

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
    """Print them; the exit code.

    Raises:
        ValueError: no such recipe or field, or changes of none.
    """
    if arguments.recipe is None:
        if arguments.set:
            raise ValueError("--set changes a recipe: name one")
        for name, recipe in recipes.RECIPES.items():
            epochs = " + ".join(str(stage.epochs) for stage in recipe.stages)
            size = f"{recipe.image_size} × {recipe.image_size}"
            print(f"{name:16} {size:10} epochs {epochs}")
        return 0
    chosen = recipes.load(arguments.recipe, arguments.set)
    print(recipes.toml(chosen), end="")
    return 0
