"""A search for a better recipe: trials, each judged on validation patients.

Held-out patients take no part: their figures stay those of patients that nothing has
seen, as long as the model that is trained in the end holds out the same ones.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from trainer import members, recipes, train
from trainer import run as runs
from trainer.data import dataset, split
from trainer.data.dataset import DatasetError, Examples
from trainer.data.split import Division
from trainer.fit import Figures
from trainer.recipes import Recipe
from trainer.run import Run
from trainer.search_space import Changes

TABLE = "trials.csv"
BEST = "best.toml"
_STUDY = "study.json"
_RESULT = "result.json"
# A trial is one network, judged as it is.
_WITHOUT_EFFECT = ("members", "test_time_augmentation")


@dataclass(frozen=True)
class Study:
    """Which recipes to try, on what.

    Attributes:
        run: what all trials have in common; its output is the folder of the search.
        divisions: each trial trains once on each.
        changes: what each trial changes in the recipe of `run`.
        judged_by: the figure of the validation patients that ranks the trials.
    """

    run: Run
    divisions: tuple[Division, ...]
    changes: tuple[Changes, ...]
    judged_by: Literal["auc", "loss"] = "auc"

    def __post_init__(self) -> None:
        fields = {field for changes in self.changes for field in changes}
        for field in _WITHOUT_EFFECT:
            if field in fields:
                raise ValueError(
                    f"{field} cannot be searched: a trial is one network, judged on "
                    "images as they are"
                )
        if "distillation" in fields and self.run.teacher is None:
            raise ValueError("distillation has no effect without a --teacher")


@dataclass(frozen=True)
class Outcome:
    """One training: the figures of the epoch that it would keep.

    Attributes:
        auc: of the validation patients, the mean over classes.
        loss: of them, likewise.
        epochs: that were trained.
        seconds: that they took; of an interrupted training, since it went on.
    """

    auc: float
    loss: float
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Trial:
    """One recipe: how it did on each division, or why it could not be trained."""

    number: int
    changes: Changes
    outcomes: tuple[Outcome, ...] = ()
    error: str = ""

    def mean(self, figure: str) -> float:
        """Of the outcomes, of which there must be one."""
        return statistics.fmean(getattr(each, figure) for each in self.outcomes)

    def row(self) -> dict[str, Any]:
        """As the table has it."""
        return {"trial": self.number, **self.changes, **self._figures(), **self._told()}

    def _figures(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for figure in ("auc", "loss"):
            each = [getattr(outcome, figure) for outcome in self.outcomes]
            found[figure] = statistics.fmean(each) if each else None
            found[f"{figure}_sd"] = statistics.stdev(each) if len(each) > 1 else None
        return found

    def _told(self) -> dict[str, Any]:
        done = bool(self.outcomes)
        return {
            "trainings": len(self.outcomes),
            "epochs": self.mean("epochs") if done else None,
            "seconds": round(sum(each.seconds for each in self.outcomes), 1),
            "error": self.error,
        }


def tune(study: Study) -> list[Trial]:
    """Train every trial that is not trained yet; all of them, the best first.

    After each trial the folder of the search has the table of all so far, and the best
    recipe. A search that was interrupted goes on when it is started again: inside the
    training that it was in. A trial that cannot be trained has its error in the table,
    and is tried again then.

    Raises:
        DatasetError: data that no trial can be trained on.
        FileExistsError: the folder holds something else, or another search.
    """
    tf.config.experimental.enable_op_determinism()
    examples = dataset.find(study.run.data, study.run.naming)
    _claim(study, examples)
    trials: list[Trial] = []
    for number, changes in enumerate(study.changes, start=1):
        trials.append(_trial(study, examples, number, changes))
        trials.sort(key=lambda trial: _rank(trial, study.judged_by))
        _leave(study, trials)
    return trials


def _trial(study: Study, examples: Examples, number: int, changes: Changes) -> Trial:
    folder = study.run.output / f"trial-{number:03d}"
    title = f"trial {number} of {len(study.changes)}"
    try:
        recipe = recipes.changed(study.run.recipe, changes)
        folder.mkdir(exist_ok=True)
        (folder / "recipe.toml").write_text(recipes.toml(recipe), "utf-8")
        outcomes = [
            _outcome(
                replace(study.run, recipe=recipe, division=division),
                examples,
                folder / _name(division),
                f"{title}, {_name(division)}",
            )
            for division in study.divisions
        ]
    except DatasetError:
        raise
    # What a value may do: not fit its field, not fit the network, part from all
    # numbers, need more memory than there is.
    except (ValueError, tf.errors.OpError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Trial(number, changes, error=first_line)
    return Trial(number, changes, tuple(outcomes))


def _outcome(run: Run, examples: Examples, folder: Path, title: str) -> Outcome:
    """Of one training, which is done unless its result is there."""
    result = folder / _RESULT
    if not result.exists():
        data = runs.prepared(
            replace(run, cache=run.cache or run.output / "cache"), examples
        )
        keras.backend.clear_session()  # graphs of trials before
        began = time.monotonic()
        _, history = members.fitted(
            run.recipe,
            train.lessons(run, data),
            run.weights,
            seed=run.seed,
            logs=folder,
            title=title,
        )
        kept = _kept(history, run.recipe)
        outcome = Outcome(
            auc=kept["val_auc"],
            loss=kept["val_loss"],
            epochs=len(history),
            seconds=time.monotonic() - began,
        )
        _write(result, json.dumps(dataclasses.asdict(outcome)) + "\n")
    # Nobody goes on from a finished training, and its weights are large.
    for weights in folder.glob("*.npz"):
        weights.unlink()
    return Outcome(**json.loads(result.read_text("utf-8")))


def _kept(history: Sequence[Figures], recipe: Recipe) -> Figures:
    """The epoch whose weights `fit` keeps."""
    if recipe.monitor == "loss":
        return min(history, key=lambda figures: figures["val_loss"])
    return max(history, key=lambda figures: figures["val_auc"])


def _name(division: Division) -> str:
    return "split" if division.fold is None else f"fold-{division.fold}"


def _rank(trial: Trial, judged_by: str) -> tuple[bool, float, int]:
    if not trial.outcomes:
        return True, 0.0, trial.number
    figure = trial.mean(judged_by)
    return False, figure if judged_by == "loss" else -figure, trial.number


def _leave(study: Study, trials: Sequence[Trial]) -> None:
    """Write the table of the trials, which are sorted, and the best recipe."""
    rows = [trial.row() for trial in trials]
    folder, partial = study.run.output, study.run.output / f"{TABLE}.partial"
    with partial.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    partial.rename(folder / TABLE)
    best = trials[0]
    if best.outcomes:
        about = f"# trial {best.number} of {len(study.changes)}: validation AUC "
        about += f"{best.mean('auc'):.4f}, loss {best.mean('loss'):.4f}\n"
        recipe = recipes.changed(study.run.recipe, best.changes)
        _write(folder / BEST, about + recipes.toml(recipe))


def _claim(study: Study, examples: Examples) -> None:
    """Note what is searched here.

    Raises:
        FileExistsError: something else was.
    """
    folder, path = study.run.output, study.run.output / _STUDY
    about = _about(study, examples)
    if path.exists():
        before = json.loads(path.read_text("utf-8"))
        differing = [name for name, value in about.items() if before.get(name) != value]
        if differing:
            raise FileExistsError(
                f"{folder} holds another search: {', '.join(differing)} differ. Give "
                "what was given then, remove it, or choose another --output"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is no search; choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps(about, indent=2) + "\n")


def _about(study: Study, examples: Examples) -> Mapping[str, Any]:
    run = study.run
    return {
        "trials": [dict(changes) for changes in study.changes],
        "recipe": recipes.plain(run.recipe),
        "seed": run.seed,
        "weights": run.weights and str(run.weights),
        "teacher": run.teacher and str(run.teacher),
        "classes": list(examples.classes),
        "images": len(examples),
        "labels": examples.labels_digest(),
        "split": {
            _name(division): split.digest(examples, split.split(examples, division))
            for division in study.divisions
        },
    }


def _write(path: Path, text: str) -> None:
    """`text` in a file that appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, "utf-8")
    partial.rename(path)
