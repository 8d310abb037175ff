"""Probabilities → decisions, for many images at once, as the job takes them one by one.

`beam_pipeline.decide` is the rule; this is the same in arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.manifest import Manifest
from trainer.evaluation import operating_points
from trainer.evaluation.operating_points import Flags
from trainer.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Decision:
    """Thresholds, and where they come from.

    Attributes:
        thresholds: one for the score; of a multi-label model one for each class.
        name: of the operating point; "" where a number was given.
        method: how they were chosen.
        chosen_on: the images they were chosen on.
        ranges: of each threshold, the 95 % interval over resampled patients; empty
            where it is not known.
    """

    thresholds: tuple[float, ...]
    name: str
    method: str
    chosen_on: str
    ranges: tuple[tuple[float, float], ...] = ()

    def flagged(self, predictions: Predictions) -> Flags:
        """Whether there is a finding, (images,)."""
        if predictions.task != "multilabel":
            return np.asarray(predictions.scores >= self.thresholds[0])
        findings = [predictions.classes.index(name) for name in predictions.findings]
        return np.asarray(self.of_classes(predictions)[:, findings].any(axis=1))

    def of_classes(self, predictions: Predictions) -> Flags:
        """Which classes an image is said to have, (images, classes)."""
        if predictions.task == "multilabel":
            return np.asarray(predictions.probabilities >= np.array(self.thresholds))
        positions = np.arange(len(predictions.classes))
        return np.asarray(self.labels(predictions)[:, np.newaxis] == positions)

    def labels(self, predictions: Predictions) -> NDArray[np.int64]:
        """The position of the one class that each image is said to have, (images,).

        The likeliest finding of a flagged image, and the likeliest other class of one
        that is not.
        """
        findings = np.isin(predictions.classes, predictions.findings)
        flagged = self.flagged(predictions)[:, np.newaxis]
        # Where every class is a finding, there is no other.
        candidates = flagged == findings if not findings.all() else findings
        allowed = np.where(candidates, predictions.probabilities, -np.inf)
        return np.asarray(allowed.argmax(axis=1))


def given(threshold: float, predictions: Predictions) -> Decision:
    """One number, for the score or for every class.

    Raises:
        ValueError: it is no probability.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"a threshold of {threshold} is not between 0 and 1")
    count = len(predictions.classes) if predictions.task == "multilabel" else 1
    return Decision((threshold,) * count, "", "given", "nothing")


def of_manifest(manifest: Manifest, name: str) -> Decision:
    """The model's own operating point.

    Raises:
        ValueError: the model has none of that name.
    """
    if name not in manifest.operating_points:
        known = ", ".join(manifest.operating_points)
        raise ValueError(
            f"the model {manifest.name} has no operating point {name!r}; it has: "
            f"{known}"
        )
    point = manifest.operating_points[name]
    return Decision(point.thresholds, name, point.method, point.chosen_on)


def chosen(predictions: Predictions, text: str, seed: int) -> Decision:
    """The operating point that `operating_points.parse` reads, on validation images.

    Raises:
        ValueError: no such method, no validation images, or no such threshold.
    """
    method = operating_points.parse(text)
    tuned = predictions.part("validation")
    if not len(tuned):
        raise ValueError(
            f"the operating point {text!r} is chosen on validation images, and these "
            "predictions have none: give --threshold, or --model with its thresholds"
        )
    if predictions.task == "multilabel":
        points = operating_points.choose_each(
            tuned.labels, tuned.probabilities, tuned.patients, method, seed
        )
    else:
        points = (
            operating_points.choose(
                tuned.positives, tuned.scores, tuned.patients, method, seed
            ),
        )
    thresholds = tuple(point.threshold for point in points)
    ranges = tuple(point.abstain for point in points)
    return Decision(thresholds, text, method.description, "validation", ranges)
