"""Every metric, for many weightings of the same images at once.

A measure (see `bootstrap`) is made for the images, and gives its figures for weights
(resamples, images); weights of 1 give the figures of the images themselves. What is not
defined is NaN; `UNDEFINED` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, xlogy

from trainer.evaluation.bootstrap import Measure

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

BINS = 10
# A score of exactly 0 or 1 has no logarithm; float32 probabilities go no closer.
_CLIP = 1e-7
_NEWTON_STEPS = 25
_NEWTON_STEPS_OF_A_RESAMPLE = 7
# Newton's steps shrink towards a solution; without one they go on at about 1.
_LAST_STEP = 1e-3
# Far from the solution, where all scores are bold and wrong, steps overshoot.
_LONGEST_STEP = 2.0

UNDEFINED: dict[str, str] = {
    "auc": "images of one kind only",
    "average_precision": "no image has the finding",
    "calibration_slope": "the scores part both kinds without an error, or are equal",
    "calibration_intercept": "images of one kind only",
    "sensitivity": "no image has the finding",
    "specificity": "every image has the finding",
    "ppv": "no image was flagged",
    "npv": "every image was flagged",
    "f1": "no image has the finding, and none was flagged",
    "balanced_accuracy": "a class has no images",
    "youden_index": "images of one kind only",
    "mcc": "one class only, in the labels or in the decisions",
    "kappa": "one class only, in the labels and in the decisions",
    "precision_macro": "a class was never predicted",
    "recall_macro": "a class has no images",
    "f1_macro": "a class has no images and was never predicted",
    "average_precision_macro": "a class has no images",
    "auc_macro": "a class has no images, or all of them",
}


def divided(numerator: Floats, denominator: Floats) -> Floats:
    """Their ratio, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def of_scores(positives: Flags, scores: Floats) -> Measure:
    """What scores say without a threshold: order, errors, calibration.

    Args:
        positives: (images,).
        scores: (images,), probabilities.
    """
    orders = _Ordered(positives, scores)
    squares = (scores - positives) ** 2
    clipped = np.clip(scores, _CLIP, 1 - _CLIP)
    losses = -np.where(positives, np.log(clipped), np.log1p(-clipped))
    bins = {
        "ece_equal_mass": _one_hot(equal_mass(scores), BINS),
        "ece_equal_width": _one_hot(equal_width(scores), BINS),
    }
    recalibration = _Recalibration(positives, logit(clipped))

    def measure(weights: Floats) -> dict[str, Floats]:
        total = weights.sum(axis=1)
        return {
            "auc": orders.auc(weights),
            "average_precision": orders.average_precision(weights),
            "brier_score": weights @ squares / total,
            "log_loss": weights @ losses / total,
            **{
                name: np.abs((weights * (scores - positives)) @ each).sum(axis=1)
                / total
                for name, each in bins.items()
            },
            "calibration_slope": recalibration.slope(weights),
            "calibration_intercept": recalibration.intercept(weights),
        }

    return measure


def equal_width(scores: Floats) -> NDArray[np.int64]:
    """The bin of each score, (images,), among `BINS` of equal width."""
    return np.minimum((scores * BINS).astype(np.int64), BINS - 1)


def equal_mass(scores: Floats) -> NDArray[np.int64]:
    """The bin of each score, among `BINS` of as many images each; equal ones share."""
    edges = np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, scores, side="left").astype(np.int64)


def _one_hot(positions: NDArray[np.int64], count: int) -> Floats:
    hot: Floats = (positions[:, np.newaxis] == np.arange(count)).astype(np.float64)
    return hot


class _Ordered:
    """Images by falling score, equal ones as one step: ROC and precision-recall."""

    def __init__(self, positives: Flags, scores: Floats) -> None:
        self._order = np.argsort(-scores, kind="stable")
        falling = scores[self._order]
        self._ends = np.flatnonzero(np.append(np.diff(falling) != 0, True))
        self._positives = positives[self._order]

    def _counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Positives and negatives at or above each score that differs."""
        ordered = weights[:, self._order]
        found = np.cumsum(ordered * self._positives, axis=1)[:, self._ends]
        calls = np.cumsum(ordered, axis=1)[:, self._ends] - found
        return found, calls

    def auc(self, weights: Floats) -> Floats:
        found, calls = self._counts(weights)
        steps = np.diff(calls, axis=1, prepend=0)
        before = np.concatenate([np.zeros((len(found), 1)), found[:, :-1]], axis=1)
        area = (steps * (found + before)).sum(axis=1) / 2
        return divided(area, found[:, -1] * calls[:, -1])

    def average_precision(self, weights: Floats) -> Floats:
        found, calls = self._counts(weights)
        steps = np.diff(found, axis=1, prepend=0)
        # No weight above a score yet: then its step is 0 too.
        precision = found / np.maximum(found + calls, 1)
        return divided((steps * precision).sum(axis=1), found[:, -1])


class _Recalibration:
    """Cox's logistic recalibration: the answer regressed on the logit of the score."""

    def __init__(self, positives: Flags, logits: Floats) -> None:
        self._answers = positives.astype(np.float64)
        self._logits = logits
        self._powers = np.stack([np.ones_like(logits), logits, logits**2], axis=1)
        everything = np.ones((1, len(logits)))
        with np.errstate(all="ignore"):
            # From 1, where scores mean nothing, the first step would go too far.
            start = np.array([[0.0, 0.0]])
            self._line = self._lines(everything, start, _NEWTON_STEPS)
            self._shift = self._shifts(everything, np.zeros(1), _NEWTON_STEPS)

    def slope(self, weights: Floats) -> Floats:
        """1 where scores are calibrated; less where they are too bold."""
        with np.errstate(all="ignore"):
            lines = self._lines(weights, self._line, self._steps(weights))
        return lines[:, 1]

    def intercept(self, weights: Floats) -> Floats:
        """With a slope of 1: 0 where as many findings are expected as there are."""
        with np.errstate(all="ignore"):
            return self._shifts(weights, self._shift, self._steps(weights))

    def _steps(self, weights: Floats) -> int:
        # Resamples begin at the solution for all images, which is close to theirs.
        return _NEWTON_STEPS if len(weights) == 1 else _NEWTON_STEPS_OF_A_RESAMPLE

    def _lines(self, weights: Floats, start: Floats, steps: int) -> Floats:
        line = np.broadcast_to(start, (len(weights), 2)).copy()
        for _ in range(steps):
            chance = expit(line[:, :1] + line[:, 1:] * self._logits)
            gradient = (weights * (self._answers - chance)) @ self._powers[:, :2]
            s0, s1, s2 = ((weights * chance * (1 - chance)) @ self._powers).T
            step = np.stack(
                [
                    s2 * gradient[:, 0] - s1 * gradient[:, 1],
                    s0 * gradient[:, 1] - s1 * gradient[:, 0],
                ],
                axis=1,
            )
            step /= (s0 * s2 - s1**2)[:, np.newaxis]
            line += step
        line[~(np.abs(step).max(axis=1) < _LAST_STEP)] = np.nan
        return line

    def _shifts(self, weights: Floats, start: Floats, steps: int) -> Floats:
        shift = np.broadcast_to(start, len(weights)).copy()
        for _ in range(steps):
            chance = expit(shift[:, np.newaxis] + self._logits)
            gradient = (weights * (self._answers - chance)).sum(axis=1)
            step = gradient / (weights * chance * (1 - chance)).sum(axis=1)
            step = np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
            shift += step
        shift[~(np.abs(step) < _LAST_STEP)] = np.nan
        return shift


def of_flags(positives: Flags, flagged: Flags) -> Measure:
    """What a decision is worth, of two kinds of images.

    Args:
        positives: (images,).
        flagged: (images,), `score >= threshold`.
    """
    kinds = _confusions(positives.astype(np.int64), flagged.astype(np.int64), 2)

    def measure(weights: Floats) -> dict[str, Floats]:
        matrix = (weights @ kinds).reshape(-1, 2, 2)
        (tn, fp), (fn, tp) = matrix[:, 0].T, matrix[:, 1].T
        sensitivity, specificity = divided(tp, tp + fn), divided(tn, tn + fp)
        return {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "ppv": divided(tp, tp + fp),
            "npv": divided(tn, tn + fn),
            "accuracy": (tp + tn) / matrix.sum(axis=(1, 2)),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "youden_index": sensitivity + specificity - 1,
            "f1": divided(2 * tp, 2 * tp + fp + fn),
            "mcc": _mcc(matrix),
            "kappa": _kappa(matrix),
        }

    return measure


def of_classes(
    truth: NDArray[np.int64], decided: NDArray[np.int64], count: int
) -> Measure:
    """What decisions among `count` classes are worth, over all of them.

    Args:
        truth: (images,), positions of the classes.
        decided: (images,), the same.
        count: of the classes.
    """
    kinds = _confusions(truth, decided, count)

    def measure(weights: Floats) -> dict[str, Floats]:
        matrix = (weights @ kinds).reshape(-1, count, count)
        right = np.diagonal(matrix, axis1=1, axis2=2)
        of_class, as_class = matrix.sum(axis=2), matrix.sum(axis=1)
        share = of_class / of_class.sum(axis=1, keepdims=True)
        precision, recall = divided(right, as_class), divided(right, of_class)
        f1 = divided(2 * right, of_class + as_class)
        each = {"precision": precision, "recall": recall, "f1": f1}
        return {
            "accuracy": right.sum(axis=1) / of_class.sum(axis=1),
            "balanced_accuracy": recall.mean(axis=1),
            **{f"{name}_macro": values.mean(axis=1) for name, values in each.items()},
            **{
                f"{name}_weighted": (share * np.nan_to_num(values)).sum(axis=1)
                for name, values in each.items()
            },
            "mcc": _mcc(matrix),
            "kappa": _kappa(matrix),
        }

    return measure


def of_probabilities(labels: Flags, probabilities: Floats, exclusive: bool) -> Measure:
    """What the probabilities of several classes are worth together.

    Args:
        labels: (images, classes).
        probabilities: (images, classes).
        exclusive: an image has one class; otherwise errors are means over the classes.
    """
    ordered = [_Ordered(*pair) for pair in zip(labels.T, probabilities.T, strict=True)]
    squares = ((probabilities - labels) ** 2).sum(axis=1)
    clipped = np.clip(probabilities, _CLIP, 1 - _CLIP)
    losses = -xlogy(labels, clipped).sum(axis=1)
    if not exclusive:
        losses = (losses - xlogy(~labels, 1 - clipped).sum(axis=1)) / labels.shape[1]
        squares = squares / labels.shape[1]

    def measure(weights: Floats) -> dict[str, Floats]:
        total = weights.sum(axis=1)
        aucs = [each.auc(weights) for each in ordered]
        return {
            "auc_macro": np.mean(aucs, axis=0),
            "average_precision_macro": np.mean(
                [each.average_precision(weights) for each in ordered], axis=0
            ),
            "brier_score": weights @ squares / total,
            "log_loss": weights @ losses / total,
        }

    return measure


def joined(measures: Sequence[Measure]) -> Measure:
    """All figures of several measures."""

    def measure(weights: Floats) -> dict[str, Floats]:
        return {name: v for each in measures for name, v in each(weights).items()}

    return measure


def difference(of: Measure, to: Measure) -> Measure:
    """The figures of one measure minus those of another, on the same images."""

    def measure(weights: Floats) -> Mapping[str, Floats]:
        less = to(weights)
        return {name: values - less[name] for name, values in of(weights).items()}

    return measure


def _confusions(
    truth: NDArray[np.int64], decided: NDArray[np.int64], count: int
) -> Floats:
    """(images, count²): which cell of the confusion matrix each image is in."""
    return _one_hot(truth * count + decided, count**2)


def _mcc(matrix: Floats) -> Floats:
    """Matthews's correlation; of several classes, R_K (Gorodkin 2004)."""
    total = matrix.sum(axis=(1, 2))
    of_class, as_class = matrix.sum(axis=2), matrix.sum(axis=1)
    right = np.trace(matrix, axis1=1, axis2=2)
    covariance = right * total - (of_class * as_class).sum(axis=1)
    spread = total**2 - (as_class**2).sum(axis=1)
    spread_of_truth = total**2 - (of_class**2).sum(axis=1)
    return divided(covariance, np.sqrt(spread * spread_of_truth))


def _kappa(matrix: Floats) -> Floats:
    """Cohen's kappa: agreement beyond chance."""
    total = matrix.sum(axis=(1, 2))
    of_class, as_class = matrix.sum(axis=2), matrix.sum(axis=1)
    chance = (of_class * as_class).sum(axis=1) / total**2
    agreed = np.trace(matrix, axis1=1, axis2=2) / total
    return divided(agreed - chance, 1 - chance)
