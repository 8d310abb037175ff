"""Curves as data: what the figures draw, and `curves.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from beam_pipeline.manifest import Estimate
from trainer.evaluation import metrics
from trainer.evaluation.bootstrap import Resamples
from trainer.evaluation.intervals import proportion

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

_HISTOGRAM_BINS = 25
# The false positive rates that the band around the ROC curve is computed at.
_GRID = np.linspace(0, 1, 101)
_THRESHOLDS = np.linspace(0, 1, 201)
_FEWEST_KEPT = 10


@dataclass(frozen=True)
class Roc:
    """The ROC curve, with a pointwise 95 % band over resampled patients.

    Attributes:
        false_positive_rate: (points,).
        sensitivity: (points,).
        thresholds: (points,); the first is infinite.
        grid: false positive rates of the band, (101,).
        low: (101,); empty without resamples.
        high: (101,); the same.
    """

    false_positive_rate: Floats
    sensitivity: Floats
    thresholds: Floats
    grid: Floats
    low: Floats
    high: Floats


def roc(positives: Flags, scores: Floats, resamples: Resamples | None = None) -> Roc:
    """The curve of images of both kinds."""
    curve = roc_curve(positives, scores, drop_intermediate=False)
    low, high = (
        (np.array([]), np.array([]))
        if resamples is None
        else _band(positives, scores, resamples)
    )
    return Roc(curve[0], curve[1], curve[2], _GRID, low, high)


def _band(
    positives: Flags, scores: Floats, resamples: Resamples
) -> tuple[Floats, Floats]:
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = positives[order]
    rows = []
    for weights in resamples.weights():
        ordered = weights[:, order]
        hits = np.cumsum(ordered * found, axis=1)[:, ends]
        calls = np.cumsum(ordered * ~found, axis=1)[:, ends]
        rows += [
            np.interp(_GRID, np.append(0, x / x[-1]), np.append(0, y / y[-1]))
            for x, y in zip(calls, hits, strict=True)
            if x[-1] and y[-1]
        ]
    low, high = np.percentile(rows, [2.5, 97.5], axis=0)
    return low, high


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision against recall, (points,) each, and the share of positives."""

    precision: Floats
    recall: Floats
    prevalence: float


def precision_recall(positives: Flags, scores: Floats) -> PrecisionRecall:
    """The curve of images some of which are positive."""
    precision, recall, _ = precision_recall_curve(positives, scores)
    return PrecisionRecall(precision, recall, float(positives.mean()))


@dataclass(frozen=True)
class Sweep:
    """What every threshold from 0 to 1 would do, (201,) each; NaN where undefined.

    Attributes:
        thresholds: in steps of 0.005.
        sensitivity: recall of the findings.
        specificity: recall of the images without.
        ppv: precision of the findings.
        npv: precision of the images without.
        flagged: the share of images flagged.
        net_benefit: of acting on what is flagged, for each threshold as the chance at
            which one would act (Vickers & Elkin 2006).
        net_benefit_of_all: of acting on every image.
    """

    thresholds: Floats
    sensitivity: Floats
    specificity: Floats
    ppv: Floats
    npv: Floats
    flagged: Floats
    net_benefit: Floats
    net_benefit_of_all: Floats


def sweep(positives: Flags, scores: Floats) -> Sweep:
    """Counts at every threshold."""
    found, rest = np.sort(scores[positives]), np.sort(scores[~positives])
    tp = len(found) - np.searchsorted(found, _THRESHOLDS).astype(np.float64)
    fp = len(rest) - np.searchsorted(rest, _THRESHOLDS).astype(np.float64)
    fn, tn = len(found) - tp, len(rest) - fp
    count = len(scores)
    odds = metrics.divided(_THRESHOLDS, 1 - _THRESHOLDS)
    return Sweep(
        thresholds=_THRESHOLDS,
        sensitivity=metrics.divided(tp, tp + fn),
        specificity=metrics.divided(tn, tn + fp),
        ppv=metrics.divided(tp, tp + fp),
        npv=metrics.divided(tn, tn + fn),
        flagged=(tp + fp) / count,
        net_benefit=(tp - fp * odds) / count,
        net_benefit_of_all=(len(found) - len(rest) * odds) / count,
    )


@dataclass(frozen=True)
class Reliability:
    """Predicted against observed share of findings, in bins of as many images each.

    Attributes:
        predicted: mean score, (bins,).
        observed: share of positives, (bins,).
        low: end of its interval, (bins,).
        high: the other end.
        images: (bins,).
    """

    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    images: NDArray[np.int64]


def reliability(
    positives: Flags, scores: Floats, patients: NDArray[np.str_]
) -> Reliability:
    """The bins of the ECE of equal mass, those without images left out."""
    bins = metrics.equal_mass(scores)
    members = [bins == each for each in np.unique(bins)]
    shares = [proportion(positives[each], patients[each]) for each in members]
    known = [share for share in shares if isinstance(share, Estimate)]
    return Reliability(
        predicted=np.array([scores[each].mean() for each in members]),
        observed=np.array([share.value for share in known]),
        low=np.array([share.low for share in known]),
        high=np.array([share.high for share in known]),
        images=np.array([share.n for share in known]),
    )


@dataclass(frozen=True)
class Histogram:
    """How many images of each class have which score.

    Attributes:
        edges: (bins + 1,).
        images: by class, (bins,).
    """

    edges: Floats
    images: Mapping[str, NDArray[np.int64]]


def histogram(scores: Floats, kinds: Mapping[str, Flags]) -> Histogram:
    """Of the scores of each kind of images, (images,)."""
    edges = np.linspace(0, 1, _HISTOGRAM_BINS + 1)
    return Histogram(
        edges,
        {name: np.histogram(scores[kind], edges)[0] for name, kind in kinds.items()},
    )


@dataclass(frozen=True)
class CoverageRisk:
    """The share of wrong decisions among the images whose members disagree least.

    Attributes:
        coverage: share of images kept, (points,).
        risk: share of those that are decided wrongly.
    """

    coverage: Floats
    risk: Floats


def coverage_risk(wrong: Flags, spread: Floats) -> CoverageRisk:
    """Of images (images,), kept by rising `spread`; from the first ten on."""
    order = np.argsort(spread, kind="stable")
    kept = np.arange(1, len(order) + 1)
    risk = np.cumsum(wrong[order]) / kept
    # Images of the same spread are kept or left together.
    last = np.append(np.diff(spread[order]) != 0, True) & (kept >= _FEWEST_KEPT)
    return CoverageRisk(kept[last] / len(order), risk[last])


def confusion(labels: Flags, decided: NDArray[np.int64]) -> NDArray[np.int64]:
    """Images by their class, in rows, and by the decision: (classes, classes).

    Args:
        labels: bool, (images, classes), one class an image.
        decided: (images,), positions of classes.
    """
    count = labels.shape[1]
    cells = labels.argmax(axis=1) * count + decided
    return np.bincount(cells, minlength=count**2).reshape(count, count)
