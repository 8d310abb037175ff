"""Thresholds are what counting says they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from trainer import operating_points
from trainer.operating_points import METHODS


def rates(positives, scores, threshold):
    """(sensitivity, specificity) of `score >= threshold`, counted image by image."""
    flagged = [score >= threshold for score in scores]
    hits = [f for f, positive in zip(flagged, positives, strict=True) if positive]
    calls = [f for f, positive in zip(flagged, positives, strict=True) if not positive]
    return sum(hits) / len(hits), 1 - sum(calls) / len(calls)


def draw(seed, digits=3):
    """Overlapping scores, some of them equal, of 5 to 60 images."""
    random = np.random.default_rng(seed)
    count = random.integers(5, 60)
    positives = random.random(count) < 0.5
    positives[:2] = True, False
    scores = random.normal(0.4 + 0.2 * positives, 0.15).round(digits)
    return positives, np.clip(scores, 0.001, 0.999)


def every_rate(positives, scores):
    """The rates of every decision that some threshold in [0, 1] makes."""
    candidates = {0.0, 1.0, *scores.tolist()}
    ordered = sorted(candidates)
    candidates |= {(a + b) / 2 for a, b in itertools.pairwise(ordered)}
    return [rates(positives, scores, t) for t in candidates]


DRAWS = pytest.mark.parametrize("seed", range(10))
TIES = pytest.mark.parametrize("digits", [1, 3], ids=["many ties", "few ties"])


@DRAWS
@TIES
def test_the_curve_says_what_its_thresholds_do(seed, digits):
    positives, scores = draw(seed, digits)
    curve = operating_points.curve(positives, scores)
    found = list(zip(curve.sensitivity, curve.specificity, strict=True))
    expected = [rates(positives, scores, t) for t in curve.thresholds]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@DRAWS
@TIES
def test_the_curve_leaves_no_decision_out(seed, digits):
    positives, scores = draw(seed, digits)
    curve = operating_points.curve(positives, scores)
    points = np.stack([curve.sensitivity, curve.specificity], axis=1)
    found = {tuple(point) for point in points.round(9)}
    expected = {tuple(np.round(r, 9)) for r in every_rate(positives, scores)}
    assert found == expected


@DRAWS
def test_thresholds_fall_and_none_equals_a_score(seed):
    positives, scores = draw(seed)
    thresholds = operating_points.curve(positives, scores).thresholds
    assert (np.diff(thresholds) < 0).all()
    assert not set(thresholds) & set(scores)


NEIGHBOURS = (np.nextafter(0.3, 0), 0.3, np.nextafter(0.3, 1))


@pytest.mark.parametrize(
    ("positives", "scores"),
    [
        ([True, False, True, False], [1.0, 1.0, 0.4, 0.2]),
        ([True, False, True, False], [0.6, 0.4, 0.0, 0.0]),
        ([True, False, True], NEIGHBOURS),
        ([False, True, False], NEIGHBOURS),
    ],
    ids=["scores of 1", "scores of 0", "neighbouring floats", "the other way round"],
)
def test_the_curve_is_true_where_there_is_no_number_between_scores(positives, scores):
    curve = operating_points.curve(np.array(positives), np.array(scores))
    found = list(zip(curve.sensitivity, curve.specificity, strict=True))
    expected = [rates(positives, scores, t) for t in curve.thresholds]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def best_of(name, every):
    """What a method promises, by going through all decisions there are."""
    if name == "default":
        return max(min(r) for r in every)
    if name == "youden":
        return max(sum(r) for r in every)
    if name == "screening":
        return max((sens, spec) for sens, spec in every if spec >= 0.90)
    return max((spec, sens) for sens, spec in every if sens >= 0.90)


def reached(name, rates_of_choice):
    sens, spec = rates_of_choice
    return {
        "default": min(sens, spec),
        "youden": sens + spec,
        "screening": (sens, spec),
        "rule_in": (spec, sens),
    }[name]


@DRAWS
@TIES
@pytest.mark.parametrize("name", METHODS)
def test_no_threshold_is_better_than_the_chosen_one(name, seed, digits):
    positives, scores = draw(seed, digits)
    threshold = METHODS[name].choose(operating_points.curve(positives, scores))
    found = reached(name, rates(positives, scores, threshold))
    assert found == pytest.approx(best_of(name, every_rate(positives, scores)))


def test_youden_does_not_settle_between_two_best_thresholds():
    # 0.15 and 0.35 are the best; 0.25, in their middle, is the worst.
    positives, scores = np.array([False, True, False, True]), np.array([1, 2, 3, 4])
    threshold = operating_points.youden(operating_points.curve(positives, scores / 10))
    assert sum(rates(positives, scores / 10, threshold)) == pytest.approx(1.5)


@pytest.mark.parametrize("name", METHODS)
def test_classes_without_overlap_are_parted_in_the_middle(name):
    positives, scores = np.array([False, False, True, True]), [0.1, 0.2, 0.6, 0.9]
    curve = operating_points.curve(positives, np.array(scores))
    assert METHODS[name].choose(curve) == pytest.approx(0.4)


@DRAWS
def test_screening_is_never_stricter_than_rule_in_where_both_can_be_had(seed):
    random = np.random.default_rng(seed)
    positives = np.arange(200) % 2 == 0
    scores = np.clip(random.normal(0.3 + 0.4 * positives, 0.12), 0.001, 0.999)
    curve = operating_points.curve(positives, scores)
    screening, rule_in = (METHODS[n].choose(curve) for n in ("screening", "rule_in"))
    assert screening <= rule_in


@DRAWS
@pytest.mark.parametrize("name", METHODS)
def test_every_threshold_is_a_probability(name, seed):
    curve = operating_points.curve(*draw(seed, digits=1))
    assert 0 <= METHODS[name].choose(curve) <= 1
