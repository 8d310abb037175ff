"""Labels, and what a teacher makes of them (Hinton, Vinyals, Dean 2015)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from beam_pipeline import saved_model
from beam_pipeline.manifest import Preparation
from trainer.data import pixels, split
from trainer.data.dataset import DatasetError, Strings
from trainer.evaluation import predictions
from trainer.evaluation.predictions import Predictions
from trainer.run import Data


def targets(
    data: Data, preparation: Preparation, teacher: Path | None, share: float
) -> NDArray[np.float32]:
    """What a network is to answer, float32, (images, classes).

    Args:
        data: the labels and the model inputs.
        preparation: how images became that.
        teacher: a model directory, or the predictions of a model for these images;
            None for the labels alone.
        share: of the teacher's probabilities in the targets.

    Raises:
        ValueError: a teacher without a share or a share without a teacher; a teacher
            of other classes, of another preparation, or with predictions for some of
            the images only.
        DatasetError: a model directory, or predictions that `train` wrote, of another
            division of the patients.
    """
    if (teacher is None) != (share == 0):
        raise ValueError(
            f"the recipe's distillation is {share:g}, "
            f"{'without' if teacher is None else 'with'} a --teacher; give both, as in "
            "--teacher MODEL --set distillation=0.5, or neither"
        )
    labels = data.examples.labels.astype(np.float32)
    if teacher is None:
        return labels
    if teacher.is_file():
        told = _predicted(predictions.load(teacher), data)
    else:
        told = _inferred(teacher, data, preparation)
    return (1 - share) * labels + share * told


def _inferred(
    teacher: Path, data: Data, preparation: Preparation
) -> NDArray[np.float32]:
    examples = data.examples
    model = saved_model.load(teacher)
    known = model.manifest
    asked = (examples.task, examples.classes, preparation.whole)
    if (known.task, known.classes, known.preparation.whole) != asked:
        raise ValueError(
            f"--teacher {teacher} is {known.task}, with the classes "
            f"{', '.join(known.classes)} and the preparation {known.preparation.name}; "
            f"{examples.task}, {', '.join(examples.classes)} and {preparation.name} "
            "are needed"
        )
    if known.training_data.split_digest != split.digest(examples, data.parts):
        raise DatasetError(
            f"--teacher {teacher} was trained on another division of the patients, or "
            "on others; if it has not learned from this run's validation and held-out "
            "patients, give the predictions.parquet that `python -m trainer evaluate "
            f"--data … --model {teacher}` writes"
        )
    found = [model.infer(chunk).probabilities for chunk in pixels.chunks(data.pixels)]
    return np.concatenate(found)


def _predicted(found: Predictions, data: Data) -> NDArray[np.float32]:
    examples = data.examples
    row_of = {name: row for row, name in enumerate(found.names.tolist())}
    missing = sum(name not in row_of for name in examples.names())
    if missing or (found.task, found.classes) != (examples.task, examples.classes):
        raise ValueError(
            f"--teacher has no prediction for {missing} of {len(examples)} images, or "
            f"answers another question: {found.task}, {', '.join(found.classes)}"
        )
    rows = [row_of[name] for name in examples.names()]
    if found.is_of_training:
        _require_same_division(found.parts[rows], data.parts)
    return found.probabilities[rows].astype(np.float32)


def _require_same_division(learned: Strings, parts: Strings) -> None:
    """Refuse a teacher that knows the labels of who is to choose or to judge here."""
    leaks = (learned == "training") & (parts != "training")
    leaks |= (learned == "validation") & (parts == "held_out")
    if leaks.any():
        raise DatasetError(
            f"--teacher has learned from, or was chosen on, {leaks.sum()} images of "
            "this run's validation and held-out patients, whose labels it would leak; "
            "train it with the same --fold, --split and --split_seed, or take one of "
            "other patients and the predictions that `evaluate` writes for these"
        )
