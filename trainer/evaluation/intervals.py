"""95 % intervals in closed form: proportions, and what two of them say together.

`delong` has those of the AUC, `bootstrap` those of everything else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from beam_pipeline.manifest import Estimate

Z = float(norm.ppf(0.975))

WILSON = "Wilson"
CLUSTERED_WILSON = "Wilson, effective number of images (Rao & Scott 1992)"
MOVER = "from the intervals of sensitivity and specificity (MOVER)"


@dataclass(frozen=True)
class Absent:
    """A figure that these images do not have, and why."""

    reason: str


Reported = Estimate | Absent


def proportion(
    hits: NDArray[np.bool_], patients: NDArray[np.str_], of: str = "images"
) -> Reported:
    """The share of `hits`, with a Wilson interval (Wilson 1927).

    Images of one patient are no independent evidence: where a patient has several, the
    number of images is divided by the design effect, the variance between patients over
    that of as many independent images (Rao & Scott 1992, Biometrics 48:577).

    Args:
        hits: (images,).
        patients: (images,), whose image each is.
        of: what the images are, for the reason where there are none.
    """
    count = len(hits)
    if not count:
        return Absent(f"there are no {of}")
    value = float(hits.mean())
    _, patient_of = np.unique(patients, return_inverse=True)
    sizes = np.bincount(patient_of)
    if len(sizes) == count:
        return _wilson(value, count, count, WILSON)
    effective = _effective(hits, patient_of, sizes)
    return _wilson(value, effective, count, CLUSTERED_WILSON)


def _effective(
    hits: NDArray[np.bool_], patient_of: NDArray[np.int64], sizes: NDArray[np.int64]
) -> float:
    """How many independent images would say as much."""
    count, patients = len(hits), len(sizes)
    value = hits.mean()
    # Where all are alike nothing shows how alike the images of one patient are: take
    # them for the same (Kish 1965). It is the least that any images can say.
    least = float(count**2 / (sizes**2).sum())
    if value in (0, 1) or patients == 1:
        return least
    residuals = np.bincount(patient_of, hits - value)
    between = patients / (patients - 1) * float((residuals**2).sum()) / count**2
    return min(float(value * (1 - value)) / between, float(count)) if between else count


def _wilson(value: float, effective: float, count: int, method: str) -> Estimate:
    middle = (value + Z**2 / (2 * effective)) / (1 + Z**2 / effective)
    half = (Z / (1 + Z**2 / effective)) * math.sqrt(
        value * (1 - value) / effective + Z**2 / (4 * effective**2)
    )
    # Rounding can leave the interval's end a hair inside a proportion of 0 or 1.
    return Estimate(
        value=value,
        low=max(min(middle - half, value), 0.0),
        high=min(max(middle + half, value), 1.0),
        n=count,
        method=method,
    )


def ratio(numerator: Estimate, denominator: Estimate) -> tuple[float, float, float]:
    """A ratio of two independent proportions, and its interval's ends.

    MOVER, the method of variance estimates recovery: Donner & Zou 2012, Statistical
    Methods in Medical Research 21:347, formula (9).

    Raises:
        ZeroDivisionError: the denominator is 0.
    """
    a, b = numerator.value, denominator.value
    product = a * b
    at_least = numerator.low * (2 * a - numerator.low)
    at_most = numerator.high * (2 * a - numerator.high)
    low_square = product**2 - at_least * denominator.high * (2 * b - denominator.high)
    high_square = product**2 - at_most * denominator.low * (2 * b - denominator.low)
    # The paper's lower limit, multiplied out: as it stands there it divides by a
    # number that may be 0.
    low = at_least / (product + math.sqrt(max(low_square, 0.0))) if a else 0.0
    high = (product + math.sqrt(max(high_square, 0.0))) / (
        denominator.low * (2 * b - denominator.low)
    )
    value = a / b
    return value, min(low, value), max(high, value)


def complement(figure: Estimate) -> Estimate:
    """One minus a proportion."""
    return Estimate(
        value=1 - figure.value,
        low=1 - figure.high,
        high=1 - figure.low,
        n=figure.n,
        method=figure.method,
    )


def likelihood_ratio(hits: Reported, calls: Reported, missing: str) -> Reported:
    """How much likelier a result is with a finding (`hits`) than without (`calls`).

    Args:
        hits: the share of images with a finding that have the result.
        calls: the share of images without one that have it.
        missing: what there is none of where `calls` is 0.
    """
    if isinstance(hits, Absent) or isinstance(calls, Absent):
        return hits if isinstance(hits, Absent) else calls
    if not calls.value:
        if not hits.value:
            return Absent(f"{missing}, and no image with a finding has this result")
        least = 1 / ratio(calls, hits)[2]
        return Absent(f"{missing}: infinite, {least:.2g} or more with 97.5 %")
    value, low, high = ratio(hits, calls)
    return Estimate(value=value, low=low, high=high, n=hits.n + calls.n, method=MOVER)


def predictive_value(
    true_share: Reported, false_share: Reported, prevalence: float
) -> Reported:
    """The share of those with a result who have what it speaks for, by Bayes.

    Args:
        true_share: of those who have it, the share with the result.
        false_share: of those who have it not, the share with the result.
        prevalence: the share of those who have it, in (0, 1).
    """
    if isinstance(true_share, Absent) or isinstance(false_share, Absent):
        return true_share if isinstance(true_share, Absent) else false_share
    if not true_share.value and not false_share.value:
        return Absent("no image has this result")

    def given(odds_against: float) -> float:
        return 1 / (1 + odds_against * (1 - prevalence) / prevalence)

    if true_share.value:
        value, high, low = map(given, ratio(false_share, true_share))
    else:
        value, low = 0.0, 0.0
        high = given(1 / ratio(true_share, false_share)[2])
    return Estimate(
        value=value, low=low, high=high, n=true_share.n + false_share.n, method=MOVER
    )
