"""Held against definitions worked out in another way; the code itself calls scipy."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency

from beam_pipeline.comparison import agreement


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_shares_have_the_published_wilson_intervals(
    count: int, of: int, low: float, high: float
) -> None:
    share = agreement.share(count, of)
    assert share.value == count / of
    assert share.low == pytest.approx(low, abs=5e-5)
    assert share.high == pytest.approx(high, abs=5e-5)


def test_a_share_of_nothing_has_no_value() -> None:
    assert agreement.share(0, 0) == agreement.Share(0, 0, None, None, None)


def exact_mcnemar(gained: int, lost: int) -> Fraction:
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1))
    return min(Fraction(1), Fraction(2 * tail, 2**n))


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (5, 5), (0, 6), (13, 4), (400, 300)]
)
def test_mcnemar_is_exact(gained: int, lost: int) -> None:
    a = np.repeat([False, True, True, False], [gained, lost, 3, 7])
    b = np.repeat([True, False, True, False], [gained, lost, 3, 7])
    found = agreement.decisions(a, b)
    assert (found.gained, found.lost) == (gained, lost)
    assert (found.both_positive, found.both_negative) == (3, 7)
    assert found.changed.count == gained + lost
    assert found.changed.of == gained + lost + 10
    assert found.p_value == pytest.approx(float(exact_mcnemar(gained, lost)))


def test_no_decisions_have_not_changed() -> None:
    found = agreement.decisions(np.zeros(0, bool), np.zeros(0, bool))
    assert (found.changed.value, found.p_value) == (None, 1.0)


def test_differences_are_those_that_pandas_describes() -> None:
    random = np.random.default_rng(0)
    a = random.random(501).round(2)
    b = np.where(random.random(501) < 0.2, a, random.random(501).round(2))
    found = agreement.differences(a, b)
    assert found is not None
    expected = pd.Series(b) - pd.Series(a)
    assert found.count == 501
    assert found.equal == (expected == 0).sum()
    assert found.mean == pytest.approx(expected.mean())
    assert found.mean_size == pytest.approx(expected.abs().mean())
    np.testing.assert_allclose(
        found.quantiles, expected.quantile(agreement.QUANTILES), atol=1e-15
    )
    # Spearman's is Pearson's of the ranks, ties at their mean.
    ranks = [pd.Series(each).rank() for each in (a, b)]
    assert found.spearman == pytest.approx(ranks[0].corr(ranks[1]))


def test_one_score_alone_has_no_rank() -> None:
    found = agreement.differences(np.array([0.5, 0.5]), np.array([0.1, 0.2]))
    assert found is not None
    assert found.spearman is None
    assert agreement.differences(np.zeros(0), np.zeros(0)) is None


def test_the_stability_index_is_that_of_its_definition() -> None:
    # Tenths of A at 10, 20 … 90 (of 0 … 100): ten bins, worked out by pandas.
    a, b = np.arange(0, 100.5, 0.5), np.arange(0, 100.5, 0.5) ** 1.2 / 100**0.2
    edges = [-np.inf, *range(10, 100, 10), np.inf]
    shares = [
        pd.Series(pd.cut(each, edges, right=False)).value_counts(sort=False) / len(each)
        for each in (a, b)
    ]
    expected = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
    found = agreement.drift(a, b)
    assert found is not None
    assert found.bins == 10
    assert found.psi == pytest.approx(expected)


def test_the_same_scores_do_not_drift_and_others_do() -> None:
    a = np.linspace(0, 1, 1000)
    same, other = agreement.drift(a, a), agreement.drift(a, a**3)
    assert same is not None
    assert other is not None
    assert same.psi == 0
    assert other.psi > 0.25 > other.chance


def test_an_empty_bin_counts_as_half_a_score() -> None:
    found = agreement.drift(np.arange(100.0), np.full(50, 0.0))
    assert found is not None
    full, empty = (1 - 0.1) * math.log(1 / 0.1), (0.01 - 0.1) * math.log(0.01 / 0.1)
    assert found.psi == pytest.approx(full + 9 * empty)


def test_chance_is_exceeded_by_one_in_twenty() -> None:
    random = np.random.default_rng(1)
    drifts = [
        agreement.drift(random.beta(1, 4, 2000), random.beta(1, 4, 1000))
        for _ in range(1000)
    ]
    above = np.mean([each.psi > each.chance for each in drifts if each])
    assert 0.03 < above < 0.075


def test_the_index_is_near_the_chi_square_of_the_same_bins() -> None:
    # For small shifts PSI is chi-square times (1/n + 1/m).
    random = np.random.default_rng(2)
    a, b = random.random(20_000), random.random(10_000) ** 1.05
    edges = np.quantile(a, np.arange(0.1, 0.95, 0.1))
    counts = [np.bincount(np.searchsorted(edges, each, "right")) for each in (a, b)]
    chi_square = chi2_contingency(counts).statistic
    found = agreement.drift(a, b)
    assert found is not None
    assert found.psi == pytest.approx(chi_square * (1 / 20_000 + 1 / 10_000), rel=0.02)


def test_scores_that_are_all_the_same_can_drift() -> None:
    found = agreement.drift(np.full(10, 0.3), np.full(10, 0.1))
    assert found is not None
    assert found.psi > 0.25
    assert agreement.drift(np.zeros(0), np.ones(3)) is None
    assert agreement.drift(np.ones(3), np.zeros(0)) is None
