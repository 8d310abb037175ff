"""The bootstrap draws patients, and gives percentiles of what they say."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation import bootstrap
from trainer.evaluation.intervals import Absent


def names(count, images_of_each=1):
    return np.arange(count).astype(str).repeat(images_of_each)


def mean_of(values):
    return lambda weights: {"mean": weights @ values / weights.sum(axis=1)}


def estimate(values, patients, count=2000, seed=1, undefined=None):
    drawn = bootstrap.draw(patients, count, seed)
    return bootstrap.estimates(mean_of(values), drawn, undefined or {})["mean"]


def test_every_resample_has_as_many_patients_and_all_their_images():
    resamples = bootstrap.draw(names(30, 4), 50, seed=1)
    weights = np.concatenate(list(resamples.weights()))
    assert weights.shape == (50, 120)
    assert (weights.sum(axis=1) == 120).all()
    # Images of one patient are drawn together.
    assert (weights.reshape(50, 30, 4).std(axis=2) == 0).all()


def test_patients_are_drawn_as_often_as_each_other():
    resamples = bootstrap.draw(names(20), 5000, seed=1)
    assert resamples.counts.mean(axis=0) == pytest.approx(np.ones(20), abs=0.06)
    # The binomial's variance: n · 1/n · (1 − 1/n).
    assert resamples.counts.var(axis=0) == pytest.approx(np.full(20, 0.95), abs=0.08)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    found = estimate(values, names(400))
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.01
    )
    assert found.method == "bootstrap over patients, 2000 resamples"


def test_the_interval_is_that_of_a_plain_bootstrap_over_patients():
    random = np.random.default_rng(99)
    sizes = random.integers(1, 5, 40)
    patients = names(40).repeat(sizes)
    # Patients differ, and those with more images weigh more.
    values = random.normal(size=40).repeat(sizes) + 0.1 * sizes.repeat(sizes)
    groups = [values[patients == name] for name in names(40)]
    means = [
        np.concatenate([groups[i] for i in random.integers(40, size=40)]).mean()
        for _ in range(4000)
    ]
    found = estimate(values, patients, count=4000)
    expected = np.percentile(means, [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.04)


def test_the_order_of_the_images_does_not_change_the_interval():
    values, patients = np.random.default_rng(0).normal(size=90), names(30, 3)
    order = np.random.default_rng(2).permutation(90)
    found, expected = (
        estimate(values[order], patients[order]),
        estimate(values, patients),
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_seed_gives_the_same_interval_again():
    values = np.random.default_rng(0).normal(size=25)
    first, again, other = (estimate(values, names(25), seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_an_interval_holds_its_value_even_where_resampling_is_biased():
    largest = bootstrap.estimates(
        lambda weights: {"max": np.where(weights > 0, np.arange(50), 0).max(axis=1)},
        bootstrap.draw(names(50), 200, seed=1),
        {},
    )["max"]
    assert largest.low <= largest.value == largest.high


def test_many_images_are_weighed_a_part_at_a_time(monkeypatch):
    values, patients = np.random.default_rng(0).normal(size=60), names(60)
    whole = estimate(values, patients)
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_ONCE", 60 * 7)
    assert estimate(values, patients).low == pytest.approx(whole.low)


def share_above(limit):
    """NaN in resamples without an image that counts."""

    def measure(weights):
        counted = weights[:, :limit].sum(axis=1)
        with np.errstate(invalid="ignore"):
            return {"share": np.where(counted > 0, weights[:, 0] / counted, np.nan)}

    return measure


def test_resamples_without_a_figure_are_left_out():
    # Three of twenty patients: 4 % of resamples have none of them.
    resamples = bootstrap.draw(names(20), 500, seed=1)
    found = bootstrap.estimates(share_above(3), resamples, {})["share"]
    assert (found.low, found.value, found.high) == pytest.approx((0, 1 / 3, 1))


def test_a_figure_that_few_resamples_have_is_absent():
    # One patient: in a third of the resamples there is none.
    resamples = bootstrap.draw(names(20), 500, seed=1)
    reasons = {"share": "no such patient"}
    found = bootstrap.estimates(share_above(1), resamples, reasons)["share"]
    assert isinstance(found, Absent)
    assert "no such patient" in found.reason


def test_a_figure_that_is_not_defined_is_absent_with_its_reason():
    resamples = bootstrap.draw(names(3), 10, seed=1)
    nothing = bootstrap.estimates(
        lambda weights: {"a": np.full(len(weights), np.nan)}, resamples, {"a": "why"}
    )
    assert nothing == {"a": Absent("why")}


def test_an_interval_without_width_says_so():
    found = estimate(np.ones(10), names(10), count=50)
    assert found.low == found.high == 1
    assert "without width" in found.method
