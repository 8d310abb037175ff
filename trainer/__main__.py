"""python -m trainer: from labelled images to a SavedModel that describes itself."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from trainer import recipes
from trainer.recipes import Augmentation, Recipe

# The file names of Kermany 2018: person1_virus_2, IM-0115-0001, NORMAL2-IM-1427-0001.
_PATIENT_PATTERN = r"^(person\d+|(?:NORMAL2-)?IM-\d+)"


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; the exit code: 0 done, 1 failed, 2 refused."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    # DatasetError, ManifestError and FileExistsError: what was given cannot be used.
    except (ValueError, OSError) as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 2


def _train(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Here, so that --help answers at once: TensorFlow takes seconds to import.
    from trainer import card, train

    run = train.Run(
        data=arguments.data,
        output=arguments.output,
        recipe=_recipe(arguments),
        weights=None if arguments.weights == "none" else Path(arguments.weights),
        card=card.load(arguments.card) if arguments.card else card.Card(),
        patient_pattern=arguments.patient_pattern,
        seed=arguments.seed,
    )
    if run.weights is not None and not run.weights.is_file():
        raise FileNotFoundError(f"--weights {run.weights}: there is no such file")
    manifest = train.train(run)
    print(f"\n{run.output}: {manifest.name} {manifest.version}, on held-out patients:")
    for name, figure in manifest.metrics.items():
        print(f"  {name:18} {figure.value:.3f} ({figure.low:.3f}–{figure.high:.3f})")
    for name, point in manifest.operating_points.items():
        print(
            f"  {name:18} threshold {point.thresholds[0]:.3f}, "
            f"sensitivity {point.sensitivity.value:.3f}, "
            f"specificity {point.specificity.value:.3f}"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = subcommands.add_parser(
        "train",
        help="train a model and export it with its manifest",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.set_defaults(run=_train)
    train.add_argument(
        "--data", type=Path, required=True, help="folder with a folder for each class"
    )
    train.add_argument(
        "--output", type=Path, required=True, help="model directory to make"
    )
    train.add_argument(
        "--recipe", choices=recipes.RECIPES, default="mobilenet", help="how to train"
    )
    train.add_argument(
        "--weights",
        required=True,
        metavar="FILE|none",
        help="the backbone's Keras weights without top, or none to start at random",
    )
    train.add_argument(
        "--card", type=Path, metavar="TOML", help="intended use, findings, eligibility"
    )
    train.add_argument(
        "--patient_pattern",
        default=_PATIENT_PATTERN,
        metavar="REGEX",
        help="finds the patient in a file name; a file without is its own patient",
    )
    train.add_argument("--seed", type=int, default=1, help="of everything random")
    overrides = train.add_argument_group("the recipe's fields, each to override")
    for name, kind in _numbers().items():
        overrides.add_argument(
            f"--{name}",
            type=kind,
            metavar=kind.__name__.upper(),
            default=argparse.SUPPRESS,
        )
    return parser


def _numbers() -> dict[str, type]:
    """The numeric fields of a recipe and of its augmentation, by name."""
    defaults: dict[str, Any] = {
        field.name: field.default
        for kind in (Recipe, Augmentation)
        for field in dataclasses.fields(kind)
    }
    return {
        name: type(default)
        for name, default in defaults.items()
        if type(default) in (int, float)
    }


def _recipe(arguments: argparse.Namespace) -> Recipe:
    recipe = recipes.RECIPES[arguments.recipe]
    given = {name: v for name, v in vars(arguments).items() if name in _numbers()}
    augmentation = {f.name for f in dataclasses.fields(Augmentation)} & given.keys()
    varied = dataclasses.replace(
        recipe.augmentation, **{name: given.pop(name) for name in augmentation}
    )
    return dataclasses.replace(recipe, augmentation=varied, **given)


if __name__ == "__main__":
    sys.exit(main())
