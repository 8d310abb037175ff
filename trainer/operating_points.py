"""Thresholds, chosen on the scores of validation patients.

`METHODS` is the whole list. Every method looks at the same candidates: midpoints
between neighbouring scores, so that no decision hangs on the last digit of one image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

Flags = NDArray[np.bool_]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Sensitivity and specificity at every candidate threshold, falling thresholds."""

    thresholds: Scores
    sensitivity: Scores
    specificity: Scores


def curve(positives: Flags, scores: Scores) -> Curve:
    """The curve of `score >= threshold` over all thresholds that differ."""
    false_positive_rate, sensitivity, _ = roc_curve(
        positives, scores, drop_intermediate=False
    )
    distinct = np.unique(scores)[::-1]
    edges = np.concatenate([[1.0], distinct, [0.0]])
    thresholds = (edges[:-1] + edges[1:]) / 2
    return Curve(thresholds, sensitivity, 1 - false_positive_rate)


def balanced_recalls(points: Curve) -> float:
    """The threshold whose lower recall, of findings or of normals, is the highest."""
    return _best(points, np.minimum(points.sensitivity, points.specificity))


def youden(points: Curve) -> float:
    """The threshold with the highest sensitivity + specificity (Youden 1950)."""
    return _best(points, points.sensitivity + points.specificity)


def at_sensitivity(least: float) -> Callable[[Curve], float]:
    """The highest specificity among thresholds of this sensitivity or more."""

    def choose(points: Curve) -> float:
        enough = points.sensitivity >= least
        return _best(points, np.where(enough, points.specificity, -1))

    return choose


def at_specificity(least: float) -> Callable[[Curve], float]:
    """The highest sensitivity among thresholds of this specificity or more."""

    def choose(points: Curve) -> float:
        enough = points.specificity >= least
        return _best(points, np.where(enough, points.sensitivity, -1))

    return choose


def _best(points: Curve, merit: Scores) -> float:
    """The middle of the plateau of best thresholds: the choice least moved by noise."""
    best = np.flatnonzero(merit == merit.max())
    return float(points.thresholds[best].mean())


@dataclass(frozen=True)
class Method:
    """A named operating point: how it is described and how it is chosen."""

    description: str
    choose: Callable[[Curve], float]


METHODS: dict[str, Method] = {
    "default": Method("balanced recalls", balanced_recalls),
    "youden": Method("highest Youden index", youden),
    "screening": Method("sensitivity of 0.98 or more", at_sensitivity(0.98)),
    "rule_in": Method("specificity of 0.98 or more", at_specificity(0.98)),
}
