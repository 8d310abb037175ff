"""python -m trainer preview: a sheet of training images as a recipe varies them."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer import recipes
from trainer.commands import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `preview`."""
    add = parser.add_argument
    train.add_source(parser)
    train.add_classes(parser)
    add("--output", type=Path, required=True, metavar="PNG", help="file to make")
    add("--recipe", default="mobilenet", metavar="NAME|TOML", help="as of train")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="as of train")
    add("--images", type=int, default=6, metavar="N", help="originals")
    add("--variations", type=int, default=5, metavar="M", help="of each of them")
    add("--seed", type=int, default=1, help="of the draw and of the variations")


def run(arguments: argparse.Namespace) -> int:
    """Write the sheet; the exit code."""
    from beam_pipeline import saved_model

    saved_model.tensorflow()
    from trainer import preview
    from trainer.data import dataset

    recipe = recipes.load(arguments.recipe, arguments.set)
    examples = dataset.find(
        arguments.data, dataset.Naming(label=arguments.class_pattern)
    )
    figure = preview.preview(
        examples, recipe, arguments.images, arguments.variations, arguments.seed
    )
    preview.write(figure, arguments.output)
    print(arguments.output)
    return 0
