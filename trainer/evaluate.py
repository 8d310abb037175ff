"""Figures on patients that nothing else has seen, each with a 95 % interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    roc_auc_score,
)

from beam_pipeline.manifest import Estimate

_RESAMPLES = 2000
_BOOTSTRAP = f"bootstrap over patients, {_RESAMPLES} resamples"
_WILSON = "Wilson"

Metric = Callable[[NDArray[np.bool_], NDArray[np.float64]], float]

METRICS: dict[str, Metric] = {
    "auc": roc_auc_score,
    "average_precision": average_precision_score,
    "brier_score": brier_score_loss,
}


@dataclass(frozen=True)
class Scored:
    """Images with an answer and a score.

    Attributes:
        positives: bool, (images,): there is a finding.
        scores: float64, (images,), in [0, 1].
        patients: (images,): whose image it is.
    """

    positives: NDArray[np.bool_]
    scores: NDArray[np.float64]
    patients: NDArray[np.str_]


def metrics(scored: Scored, threshold: float, seed: int) -> dict[str, Estimate]:
    """Every metric of `METRICS`, and accuracy at `threshold`."""
    figures = {
        name: bootstrap(metric, scored, seed) for name, metric in METRICS.items()
    }

    def accuracy(positives: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
        return float(accuracy_score(positives, scores >= threshold))

    return {**figures, "accuracy": bootstrap(accuracy, scored, seed)}


def sensitivity(scored: Scored, threshold: float) -> Estimate:
    """The share of findings with `score >= threshold`, with a Wilson interval."""
    hits = scored.scores[scored.positives] >= threshold
    return _proportion(int(hits.sum()), len(hits))


def specificity(scored: Scored, threshold: float) -> Estimate:
    """The share of images without a finding and `score < threshold`."""
    hits = scored.scores[~scored.positives] < threshold
    return _proportion(int(hits.sum()), len(hits))


def bootstrap(metric: Metric, scored: Scored, seed: int) -> Estimate:
    """A metric with a percentile interval over resampled patients.

    Patients are drawn, not images: images of one patient are no independent evidence.
    Resamples with one class only have no AUC and are drawn again.

    Raises:
        ValueError: there are no findings, or nothing but findings, to begin with.
    """
    if scored.positives.all() or not scored.positives.any():
        raise ValueError(
            f"{len(scored.positives)} held-out images are of one kind only: more "
            "patients of the other are needed for any figure"
        )
    random = np.random.default_rng(seed)
    order = np.argsort(scored.patients, kind="stable")
    _, starts = np.unique(scored.patients[order], return_index=True)
    images_of = np.split(order, starts[1:])
    values: list[float] = []
    while len(values) < _RESAMPLES:
        drawn = random.integers(len(images_of), size=len(images_of))
        chosen = np.concatenate([images_of[patient] for patient in drawn])
        positives = scored.positives[chosen]
        if positives.any() and not positives.all():
            values.append(float(metric(positives, scored.scores[chosen])))
    value = float(metric(scored.positives, scored.scores))
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        n=len(scored.scores),
        method=_BOOTSTRAP,
    )


def _proportion(hits: int, n: int) -> Estimate:
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    value = hits / n
    # Rounding can leave the interval's end a hair inside a proportion of 0 or 1.
    return Estimate(
        value=value,
        low=min(float(interval.low), value),
        high=max(float(interval.high), value),
        n=n,
        method=_WILSON,
    )
