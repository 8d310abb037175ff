"""python -m trainer tune: search for a better recipe on validation patients."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import recipes
from trainer.commands import train

if TYPE_CHECKING:
    from trainer.data.split import Division
    from trainer.recipes import Recipe
    from trainer.search_space import Changes
    from trainer.tune import Study, Trial

_TRIALS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `tune`."""
    train.add_data(parser)
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of the search"
    )
    train.add_recipe(parser)
    parser.add_argument("--card", type=Path, metavar="TOML", help="as of train")
    _add_search(parser)


def _add_search(parser: argparse.ArgumentParser) -> None:
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--grid",
        action="append",
        metavar="FIELD=V1,V2,…",
        help="values of a field of the recipe; may be repeated: all combinations",
    )
    kind.add_argument(
        "--random",
        action="append",
        metavar="FIELD=LOW..HIGH",
        help="a range to draw from, log:LOW..HIGH for its logarithm, or V1,V2,… to "
        "choose from; may be repeated",
    )
    add = parser.add_argument
    add("--trials", type=int, help="how many to draw with --random (default: 20)")
    add(
        "--folds",
        type=int,
        metavar="N",
        help="train each trial once for each of N folds (default: once)",
    )
    add(
        "--by",
        choices=("auc", "loss"),
        default="auc",
        help="the figure of the validation patients that ranks the trials",
    )


def run(arguments: argparse.Namespace) -> int:
    """Search; the exit code: 1 if no trial could be trained."""
    from beam_pipeline import saved_model

    saved_model.tensorflow()
    from trainer import card, tune
    from trainer.run import Run

    recipe = recipes.load(arguments.recipe, arguments.set)
    among = divisions(arguments)
    run = Run(
        data=arguments.data,
        naming=train.naming(arguments),
        division=among[0],
        output=arguments.output,
        recipe=recipe,
        weights=train.weights(arguments.weights),
        card=card.load(arguments.card) if arguments.card else card.Card(),
        seed=arguments.seed,
        cache=arguments.cache,
        teacher=arguments.teacher,
    )
    study = tune.Study(run, among, _changes(recipe, arguments), arguments.by)
    trials = tune.tune(study)
    _say(study, trials)
    return 0 if trials[0].outcomes else 1


def divisions(arguments: argparse.Namespace) -> tuple[Division, ...]:
    """How the patients are divided for each training of a trial.

    Raises:
        ValueError: folds that are none, or together with what divides otherwise.
    """
    one, count = train.division(arguments), arguments.folds
    if count is None:
        return (one,)
    if arguments.fold is not None or one.given:
        raise ValueError("--folds goes neither with --fold nor with --split given")
    if count < 2:
        raise ValueError(f"--folds {count}: two folds or more are needed")
    return tuple(replace(one, fold=fold, folds=count) for fold in range(1, count + 1))


def _changes(recipe: Recipe, arguments: argparse.Namespace) -> tuple[Changes, ...]:
    from trainer import search_space

    if arguments.grid:
        if arguments.trials is not None:
            raise ValueError("--grid tries all combinations: --trials is of --random")
        return search_space.grid(recipe, arguments.grid)
    return search_space.sample(
        recipe,
        arguments.random,
        _TRIALS if arguments.trials is None else arguments.trials,
        arguments.seed,
    )


def _say(study: Study, trials: Sequence[Trial]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [trial.row() for trial in trials]
    table = Table(title=f"{study.run.output}: best first")
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "error" else "right")
    for row in rows:
        # As texts: an error may have brackets, which are markup to rich.
        table.add_row(*(Text(_shown(value)) for value in row.values()))
    console = Console()
    # A log has no width that a table would have to fit.
    Console(width=console.width if console.is_terminal else 200).print(table)
    if len(study.divisions) > 1:
        print(
            "Patients whom one fold holds out taught or judged in another: whatever is "
            "trained with this recipe on the same patients, its figures are a little "
            "too good."
        )
    elif trials[0].outcomes:
        print(
            f"Train with --recipe {study.run.output / 'best.toml'}: with the same "
            "--data, --split, --fold and --split_seed, patients are held out that took "
            "no part in this search."
        )


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
