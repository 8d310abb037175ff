"""The AUC with its variance and its comparisons: DeLong 1988, in O(n log n).

The placement values come from midranks (Sun & Xu 2014, IEEE Signal Processing Letters
21:1389). Where patients have several images, their placements are summed by patient
(Obuchowski 1997, Biometrics 53:567); with one image a patient that is DeLong's own
variance, so that there is one formula.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from beam_pipeline.manifest import Estimate
from trainer.evaluation.intervals import Absent, Reported, Z

DELONG = "DeLong"
CLUSTERED_DELONG = "DeLong, patients as clusters (Obuchowski 1997)"

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Aucs:
    """The AUCs of several scores on the same images.

    Attributes:
        values: (scores,).
        covariance: (scores, scores).
        images: how many.
        method: how the covariance was computed.
    """

    values: Floats
    covariance: Floats
    images: int
    method: str


def placements(positives: Flags, scores: Floats) -> tuple[Floats, Floats]:
    """The share of the other kind that each image is ordered rightly against.

    Args:
        positives: (images,), of both kinds.
        scores: (images,).

    Returns:
        Of each positive, the share of negatives below it; of each negative, the share
        of positives above it. A tie counts half.
    """
    ranks = rankdata(scores)
    found, rest = scores[positives], scores[~positives]
    below = (ranks[positives] - rankdata(found)) / len(rest)
    above = 1 - (ranks[~positives] - rankdata(rest)) / len(found)
    return below, above


def aucs(positives: Flags, scores: Floats, patients: NDArray[np.str_]) -> Aucs:
    """AUCs of scores (models, images) of the same images, with their covariance.

    Raises:
        ValueError: fewer than two patients with a positive image, or with a negative.
    """
    _, patient_of = np.unique(patients, return_inverse=True)
    for name, kind in (("with a finding", positives), ("without", ~positives)):
        if len(set(patient_of[kind])) < 2:
            raise ValueError(
                f"there are {len(set(patient_of[kind]))} patients {name}; an AUC with "
                "an interval needs two or more of each kind"
            )
    both = [placements(positives, each) for each in scores]
    values = np.array([below.mean() for below, _ in both])
    count = patient_of.max() + 1
    x, y = (
        np.array(
            [
                np.bincount(patient_of[kind], pair[side] - value, minlength=count)
                for pair, value in zip(both, values, strict=True)
            ],
            np.float64,
        )
        for side, kind in enumerate((positives, ~positives))
    )
    return Aucs(
        values=values,
        covariance=_covariance(x, y, positives, patient_of),
        images=len(positives),
        method=DELONG if count == len(positives) else CLUSTERED_DELONG,
    )


def _covariance(
    x: Floats, y: Floats, positives: Flags, patient_of: NDArray[np.int64]
) -> Floats:
    """From the placements' residuals, summed by patient: (models, patients) each."""

    def unbiased(patients: int) -> float:
        return patients / (patients - 1)

    found, rest = int(positives.sum()), int((~positives).sum())
    with_positive, with_negative = (
        len(set(patient_of[kind])) for kind in (positives, ~positives)
    )
    across = x @ y.T
    return np.asarray(
        unbiased(with_positive) * x @ x.T / found**2
        + unbiased(with_negative) * y @ y.T / rest**2
        + unbiased(x.shape[1]) * (across + across.T) / (found * rest)
    )


def auc(positives: Flags, scores: Floats, patients: NDArray[np.str_]) -> Reported:
    """The AUC of one score, (images,), with its interval, cut to [0, 1]."""
    try:
        found = aucs(positives, scores[np.newaxis], patients)
    except ValueError as error:
        return Absent(str(error))
    value = float(found.values[0])
    half = Z * math.sqrt(max(found.covariance[0, 0], 0.0))
    return Estimate(
        value=value,
        low=max(value - half, 0.0),
        high=min(value + half, 1.0),
        n=found.images,
        method=found.method,
    )


@dataclass(frozen=True)
class Difference:
    """One AUC minus another on the same images.

    Attributes:
        estimate: with its interval.
        p_value: two-sided, of no difference.
    """

    estimate: Estimate
    p_value: float


def difference(found: Aucs, of: int, to: int) -> Difference:
    """The AUC of score `of` minus that of score `to`: the paired test of DeLong."""
    value = float(found.values[of] - found.values[to])
    c = found.covariance
    deviation = math.sqrt(max(c[of, of] + c[to, to] - 2 * c[of, to], 0.0))
    # Scores that order all images alike have a difference of 0 without any variance.
    p_value = (
        2 * float(norm.sf(abs(value) / deviation)) if deviation else float(not value)
    )
    return Difference(
        Estimate(
            value=value,
            low=value - Z * deviation,
            high=value + Z * deviation,
            n=found.images,
            method=found.method,
        ),
        p_value,
    )
