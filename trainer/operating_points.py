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

# Smaller than one image in any validation set: it decides between equals alone.
_TIE_BREAK = 1e-9

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
    above, below = np.append(1.0, distinct), np.append(distinct, 0.0)
    middle = (above + below) / 2
    # Neighbouring floats have no middle; the upper one parts them just as well.
    thresholds = np.where(middle > below, middle, above)
    # No threshold in [0, 1] spares a score of 1.
    first = int(distinct[0] >= 1)
    return Curve(
        thresholds[first:], sensitivity[first:], 1 - false_positive_rate[first:]
    )


def balanced_recalls(points: Curve) -> float:
    """The threshold whose lower recall, of findings or of normals, is the highest."""
    return _best(points, np.minimum(points.sensitivity, points.specificity))


def youden(points: Curve) -> float:
    """The threshold with the highest sensitivity + specificity (Youden 1950)."""
    return _best(points, points.sensitivity + points.specificity)


def most_sensitive(specificity: float) -> Callable[[Curve], float]:
    """The highest sensitivity among thresholds of at least this specificity.

    Of several, the most specific: where a model parts its validation patients without
    an error, a plain "sensitivity of 0.98" would give a threshold above the default.
    """

    def choose(points: Curve) -> float:
        merit = points.sensitivity + _TIE_BREAK * points.specificity
        return _best(points, np.where(points.specificity >= specificity, merit, -1))

    return choose


def most_specific(sensitivity: float) -> Callable[[Curve], float]:
    """The highest specificity among thresholds of at least this sensitivity.

    Of several, the most sensitive.
    """

    def choose(points: Curve) -> float:
        merit = points.specificity + _TIE_BREAK * points.sensitivity
        return _best(points, np.where(points.sensitivity >= sensitivity, merit, -1))

    return choose


def _best(points: Curve, merit: Scores) -> float:
    """The middle of the widest plateau of best thresholds: least moved by noise."""
    best = np.flatnonzero(merit == merit.max())
    plateaus = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    return float(points.thresholds[max(plateaus, key=len)].mean())


@dataclass(frozen=True)
class Method:
    """A named operating point: how it is described and how it is chosen."""

    description: str
    choose: Callable[[Curve], float]


METHODS: dict[str, Method] = {
    "default": Method("balanced recalls", balanced_recalls),
    "youden": Method("highest Youden index", youden),
    "screening": Method(
        "highest sensitivity with a specificity of 0.90 or more", most_sensitive(0.90)
    ),
    "rule_in": Method(
        "highest specificity with a sensitivity of 0.90 or more", most_specific(0.90)
    ),
}
