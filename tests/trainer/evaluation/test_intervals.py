"""Intervals of proportions, and of what two proportions say together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from beam_pipeline.manifest import Estimate
from trainer.evaluation import intervals
from trainer.evaluation.intervals import Absent


def singles(count):
    return np.arange(count).astype(str)


def share(hits, n):
    return intervals.proportion(np.arange(n) < hits, singles(n))


@pytest.mark.parametrize(
    ("hits", "n"), [(0, 10), (1, 10), (7, 10), (10, 10), (95, 100), (300, 300)]
)
def test_with_one_image_a_patient_the_interval_is_that_of_wilson(hits, n):
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    found = share(hits, n)
    assert (found.value, found.n, found.method) == (hits / n, n, "Wilson")
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-9)


def test_copies_of_images_do_not_narrow_the_interval():
    hits = np.arange(60) % 3 > 0
    one = intervals.proportion(hits, singles(60))
    ten = intervals.proportion(hits.repeat(10), singles(60).repeat(10))
    # 59 and not 60: the variance between patients is estimated.
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high), abs=2e-3)
    assert ten.n == 600
    assert "Rao" in ten.method


def test_images_of_a_patient_that_do_not_resemble_each_other_count_each():
    random = np.random.default_rng(0)
    hits = random.random(3000) < 0.7
    clustered = intervals.proportion(hits, singles(1000).repeat(3))
    apart = intervals.proportion(hits, singles(3000))
    assert clustered.high - clustered.low == pytest.approx(
        apart.high - apart.low, rel=0.05
    )


@pytest.mark.parametrize("value", [False, True])
def test_where_all_images_are_alike_each_patient_counts_once(value):
    found = intervals.proportion(np.full(40, value), singles(10).repeat(4))
    expected = share(10 * value, 10)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_clustered_interval_is_close_to_a_bootstrap_over_patients():
    random = np.random.default_rng(1)
    sizes = random.integers(1, 6, 200)
    chance = random.beta(4, 2, 200).repeat(sizes)
    patients = singles(200).repeat(sizes)
    hits = random.random(len(patients)) < chance
    groups = [hits[patients == name] for name in singles(200)]
    drawn = [
        np.concatenate([groups[i] for i in random.integers(200, size=200)]).mean()
        for _ in range(2000)
    ]
    found = intervals.proportion(hits, patients)
    expected = np.percentile(drawn, [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.012)


def test_one_patient_alone_says_little():
    found = intervals.proportion(np.array([True, True, False]), np.array(["a"] * 3))
    assert found.high - found.low > 0.7


def test_a_share_of_nothing_is_absent_with_its_reason():
    found = intervals.proportion(
        np.array([], bool), np.array([], str), "flagged images"
    )
    assert found == Absent("there are no flagged images")


def published(a, b):
    """Donner & Zou 2012, formula (9), as it is printed."""
    low = (
        a.value * b.value
        - np.sqrt(
            (a.value * b.value) ** 2
            - a.low * b.high * (2 * a.value - a.low) * (2 * b.value - b.high)
        )
    ) / (b.high * (2 * b.value - b.high))
    high = (
        a.value * b.value
        + np.sqrt(
            (a.value * b.value) ** 2
            - a.high * b.low * (2 * a.value - a.high) * (2 * b.value - b.low)
        )
    ) / (b.low * (2 * b.value - b.low))
    return a.value / b.value, low, high


@pytest.mark.parametrize(
    ("a", "b"), [((90, 100), (20, 80)), ((20, 80), (90, 100)), ((5, 50), (45, 50))]
)
def test_a_ratio_has_the_interval_of_the_paper(a, b):
    pair = share(*a), share(*b)
    assert intervals.ratio(*pair) == pytest.approx(published(*pair))


def test_a_ratio_of_large_samples_has_the_interval_of_its_logarithm():
    # Simel 1991: log LR is normal with this variance.
    found = intervals.ratio(share(3600, 4000), share(800, 4000))
    deviation = np.sqrt(1 / 3600 - 1 / 4000 + 1 / 800 - 1 / 4000)
    expected = 4.5 * np.exp(np.array([0, -1.96, 1.96]) * deviation)
    assert found == pytest.approx(tuple(expected), rel=2e-3)


def test_the_interval_of_a_ratio_holds_it_in_19_of_20_samples():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        pair = share(random.binomial(60, 0.9), 60), share(random.binomial(80, 0.2), 80)
        _, low, high = intervals.ratio(*pair)
        held += low <= 4.5 <= high
    assert 0.92 <= held / 500 <= 0.98


def test_a_ratio_to_a_share_without_images_is_absent_and_says_how_large_it_is():
    found = intervals.likelihood_ratio(share(45, 50), share(0, 50), "no false alarm")
    assert found.reason.startswith("no false alarm: infinite, ")
    # 0.9 to 0.071, the upper end of 0 of 50.
    assert "13 or more" in found.reason


@pytest.mark.parametrize(
    ("prevalence", "ppv"), [(0.625, 0.94), (0.10, 0.51), (0.02, 0.16), (0.01, 0.09)]
)
def test_the_ppv_at_a_prevalence_is_that_of_bayes(prevalence, ppv):
    found = intervals.predictive_value(share(932, 1000), share(99, 1000), prevalence)
    expected = prevalence * 0.932 / (prevalence * 0.932 + (1 - prevalence) * 0.099)
    assert found.value == pytest.approx(expected)
    assert found.value == pytest.approx(ppv, abs=0.005)
    assert found.low < found.value < found.high


def test_without_a_false_alarm_the_ppv_is_1_and_its_interval_is_not():
    found = intervals.predictive_value(share(45, 50), share(0, 50), 0.02)
    assert found.value == found.high == 1
    assert 0.1 < found.low < 0.5


def test_without_a_hit_the_ppv_is_0_and_its_interval_is_not():
    found = intervals.predictive_value(share(0, 50), share(5, 50), 0.5)
    assert found.value == found.low == 0
    assert 0 < found.high < 1


def test_what_no_image_has_has_no_predictive_value():
    assert isinstance(
        intervals.predictive_value(share(0, 50), share(0, 50), 0.5), Absent
    )
    assert intervals.predictive_value(Absent("why"), share(1, 2), 0.5) == Absent("why")


def test_a_complement_turns_the_interval_round():
    found = intervals.complement(share(9, 10))
    assert isinstance(found, Estimate)
    assert (found.value, found.low) == pytest.approx((0.1, 1 - share(9, 10).high))
