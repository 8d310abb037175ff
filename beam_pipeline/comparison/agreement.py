"""How far two runs agree: shares, decisions, scores, and how scores are spread.

A is the reference; every difference is B minus A. Nobody says here which of two
decisions is right: the runs have no labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2, spearmanr

Flags = NDArray[np.bool_]
Scores = NDArray[np.float64]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_TENTHS = np.arange(1, 10) / 10


@dataclass(frozen=True)
class Share:
    """`count` of `of`, with Wilson's 95 % interval (1927); null where `of` is 0."""

    count: int
    of: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Decisions:
    """What two runs decided of the same.

    Attributes:
        both_positive: positive in both.
        gained: negative in A, positive in B.
        lost: positive in A, negative in B.
        both_negative: negative in both.
        changed: gained or lost.
        p_value: McNemar's exact test (1947), two-sided, of gains and losses being as
            likely.
    """

    both_positive: int
    gained: int
    lost: int
    both_negative: int
    changed: Share
    p_value: float


@dataclass(frozen=True)
class Differences:
    """Scores in B minus those in A, of the same.

    Attributes:
        count: how many.
        equal: of these, the very same.
        mean: of the differences.
        mean_size: of their sizes, signs left out.
        quantiles: of the differences, at `QUANTILES`.
        spearman: rank correlation of the scores; None where a run has but one score.
    """

    count: int
    equal: int
    mean: float
    mean_size: float
    quantiles: list[float]
    spearman: float | None


@dataclass(frozen=True)
class Drift:
    """How the scores of B are spread, against those of A.

    Attributes:
        psi: the population stability index, the sum over `bins` of (b − a) ln(b / a),
            a and b being shares; an empty bin counts as half a score.
        bins: between the tenths of A's scores.
        chance: what it stays below in 95 of 100 pairs of as many independent scores of
            one population: Yurdakul & Naranjo 2020, Journal of Risk Model Validation
            14(4).
    """

    psi: float
    bins: int
    chance: float


def share(count: int, of: int) -> Share:
    """`count` of `of`."""
    if not of:
        return Share(0, 0, None, None, None)
    low, high = binomtest(count, of).proportion_ci(method="wilson")
    return Share(count, of, count / of, float(low), float(high))


def quantiles(values: Scores) -> list[float] | None:
    """Of `values` (n,), at `QUANTILES`; None where n is 0."""
    if not len(values):
        return None
    found: list[float] = np.quantile(values, QUANTILES).tolist()
    return found


def decisions(a: Flags, b: Flags) -> Decisions:
    """Of two runs, `a` and `b` (n,): whether each is positive."""
    gained, lost = int((b & ~a).sum()), int((a & ~b).sum())
    changed = gained + lost
    return Decisions(
        both_positive=int((a & b).sum()),
        gained=gained,
        lost=lost,
        both_negative=int((~a & ~b).sum()),
        changed=share(changed, len(a)),
        p_value=float(binomtest(gained, changed).pvalue) if changed else 1.0,
    )


def differences(a: Scores, b: Scores) -> Differences | None:
    """Of two runs, `a` and `b` (n,); None where n is 0."""
    if not len(a):
        return None
    found = b - a
    varied = np.ptp(a) > 0 and np.ptp(b) > 0
    return Differences(
        count=len(found),
        equal=int((found == 0).sum()),
        mean=float(found.mean()),
        mean_size=float(np.abs(found).mean()),
        quantiles=quantiles(found) or [],
        spearman=float(spearmanr(a, b).statistic) if varied else None,
    )


def drift(a: Scores, b: Scores) -> Drift | None:
    """Of all scores of two runs, (n,) and (m,); None where n or m is 0."""
    if not len(a) or not len(b):
        return None
    edges = np.unique(np.quantile(a, _TENTHS))
    in_a, in_b = _shares(a, edges), _shares(b, edges)
    spread = 1 / len(a) + 1 / len(b)
    return Drift(
        psi=float(((in_b - in_a) * np.log(in_b / in_a)).sum()),
        bins=len(in_a),
        chance=float(chi2.ppf(0.95, len(edges))) * spread,
    )


def _shares(scores: Scores, edges: Scores) -> Scores:
    counts = np.bincount(
        np.searchsorted(edges, scores, "right"), minlength=len(edges) + 1
    )
    return np.maximum(counts, 0.5) / len(scores)
