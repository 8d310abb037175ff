"""Predictions made in code, whose answers and scores go together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from trainer.evaluation.decisions import Decision
from trainer.evaluation.predictions import Predictions

HALF = Decision((0.5,), "default", "balanced recalls", "validation")


def binary(seed: int = 0, count: int = 120, images_of_each: int = 1) -> Predictions:
    """NORMAL and PNEUMONIA in turn; half of the patients are held out."""
    random = np.random.default_rng(seed)
    positives = (np.arange(count) % 2 == 1).repeat(images_of_each)
    logits = random.normal(np.where(positives, 1.2, -1.2), 1.0)
    return _predictions(
        "binary",
        ("NORMAL", "PNEUMONIA"),
        np.stack([~positives, positives], axis=1),
        np.stack([np.zeros(len(logits)), logits], axis=1),
        images_of_each,
    )


def multiclass(seed: int = 0, count: int = 150) -> Predictions:
    """NORMAL, PNEUMONIA and TB, the last two of which are findings."""
    random = np.random.default_rng(seed)
    labels = np.eye(3, dtype=bool)[np.arange(count) % 3]
    logits = random.normal(2.0 * labels)
    return _predictions("multiclass", ("NORMAL", "PNEUMONIA", "TB"), labels, logits)


def multilabel(seed: int = 0, count: int = 150) -> Predictions:
    """Any of EFFUSION and NODULE, or none."""
    random = np.random.default_rng(seed)
    labels = random.random((count, 2)) < (0.5, 0.3)
    logits = random.normal(np.where(labels, 1.5, -1.5))
    return _predictions("multilabel", ("EFFUSION", "NODULE"), labels, logits)


def _predictions(
    task: Any, classes: Any, labels: Any, logits: Any, images_of_each: int = 1
) -> Predictions:
    count = len(labels)
    patients = np.arange(count // images_of_each).repeat(images_of_each)
    return Predictions(
        task=task,
        classes=classes,
        findings=tuple(name for name in classes if name != "NORMAL"),
        names=np.array([f"image{index}.png" for index in range(count)]),
        labels=labels,
        logits=logits,
        temperature=1.0,
        patients=np.array([f"patient{index}" for index in patients]),
        parts=np.where(patients % 4 < 2, "held_out", "validation"),
        columns={},
    )


def with_column(predictions: Predictions, **columns: Any) -> Predictions:
    """The same images, of which more is known."""
    return replace(predictions, columns={n: np.array(v) for n, v in columns.items()})


def shuffled(predictions: Predictions, seed: int = 3) -> Predictions:
    """The same images in another order."""
    order = np.random.default_rng(seed).permutation(len(predictions))
    names = ("names", "labels", "logits", "patients", "parts")
    moved: Any = {name: getattr(predictions, name)[order] for name in names}
    return replace(predictions, **moved)
