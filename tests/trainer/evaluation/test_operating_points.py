"""Thresholds are what counting says they are."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from trainer.evaluation import operating_points
from trainer.evaluation.operating_points import METHODS


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
    threshold = operating_points.youden().choose(
        operating_points.curve(positives, scores / 10)
    )
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


def every(positives, scores):
    """(sensitivity, specificity) of every decision, with the share of positives."""
    return every_rate(positives, scores), positives.mean()


# What each text promises: a value to make as large as can be, of allowed decisions.
PROMISES = {
    "balanced_recalls": lambda s, c, p: min(s, c),
    "closest_corner": lambda s, c, p: -((1 - s) ** 2) - (1 - c) ** 2,
    "sensitivity=0.8": lambda s, c, p: c if s >= 0.8 else None,
    "specificity=0.75": lambda s, c, p: s if c >= 0.75 else None,
    "cost=10:1": lambda s, c, p: -(10 * p * (1 - s) + (1 - p) * (1 - c)),
    "cost=10:1@0.02": lambda s, c, p: -(10 * 0.02 * (1 - s) + 0.98 * (1 - c)),
    "f_beta=2": lambda s, c, p: (
        5 * s * p / (5 * s * p + 4 * (1 - s) * p + (1 - c) * (1 - p))
    ),
    "ppv=0.6": lambda s, c, p: (
        s if s > 0 and s * p >= 0.6 * (s * p + (1 - c) * (1 - p)) else None
    ),
    "alerts=1/4@0.1": lambda s, c, p: (
        s if 0.1 * s + 0.9 * (1 - c) <= 0.25 + 1e-12 else None
    ),
}


@DRAWS
@pytest.mark.parametrize("text", PROMISES)
def test_a_method_from_a_text_keeps_its_promise(text, seed):
    positives, scores = draw(seed)
    promise = PROMISES[text]
    rates_of_all, share = every(positives, scores)
    values = [promise(*rate, share) for rate in rates_of_all]
    allowed = [value for value in values if value is not None]
    method = operating_points.parse(text)
    curve = operating_points.curve(positives, scores)
    if not allowed:
        with pytest.raises(ValueError, match="no threshold has"):
            method.choose(curve)
        return
    found = promise(*rates(positives, scores, method.choose(curve)), share)
    assert found == pytest.approx(max(allowed))


def test_the_names_of_a_manifest_are_texts_too():
    for name, method in METHODS.items():
        assert operating_points.parse(name) is method


def test_every_form_in_the_help_can_be_parsed():
    for form in operating_points.FORMS:
        assert operating_points.parse(form).description


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("best", "there is no operating point 'best'; there are: default"),
        ("sensitivity", "'sensitivity' is not written as sensitivity=0.95"),
        ("sensitivity=high", "not written as sensitivity=0.95"),
        ("sensitivity=95", "a share above 0, and 1 or less"),
        ("specificity=0", "a share above 0, and 1 or less"),
        ("youden=1", "not written as youden"),
        ("cost=10", "not written as cost=10:1@0.02"),
        ("cost=10:0", "every number must be above 0"),
        ("cost=10:1@2", "a prevalence is between 0 and 1"),
        ("ppv=0.5@1", "a prevalence is between 0 and 1"),
        ("f_beta=0", "every number must be above 0"),
        ("alerts=600/500", "more alerts than images"),
        ("alerts=20/500@0", "every number must be above 0"),
    ],
)
def test_a_text_that_means_nothing_is_refused_with_what_is_wrong(text, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        operating_points.parse(text)


def test_a_ppv_out_of_reach_is_an_error_and_no_threshold():
    positives = np.array([False, True, True, False] * 5)
    curve = operating_points.curve(positives, np.linspace(0.9, 0.1, 20))
    method = operating_points.parse("ppv=0.9@0.001")
    with pytest.raises(ValueError, match=r"PPV of 0\.90 or more at a prevalence"):
        method.choose(curve)


def patients(count, images_of_each=1):
    return np.arange(count).astype(str).repeat(images_of_each)


def chosen_by_hand(positives, scores, names, method, count=300):
    """Percentiles of the method's threshold over patients drawn one by one."""
    random = np.random.default_rng(7)
    found = []
    images_of = {name: np.flatnonzero(names == name) for name in names}
    for _ in range(count):
        drawn = random.choice(np.unique(names), len(set(names)))
        rows = np.concatenate([images_of[name] for name in drawn])
        curve = operating_points.curve(positives[rows], scores[rows])
        found.append(method.choose(curve))
    return np.percentile(found, [2.5, 97.5])


@pytest.mark.parametrize("text", ["youden", "specificity=0.8", "cost=3:1@0.2"])
def test_the_interval_of_a_threshold_is_that_of_a_plain_bootstrap(text):
    random = np.random.default_rng(0)
    positives = (np.arange(150) % 2 == 0).repeat(2)
    names = patients(150, 2)
    scores = np.clip(random.normal(0.4 + 0.25 * positives, 0.12), 0.001, 0.999)
    method = operating_points.parse(text)
    found = operating_points.choose(positives, scores, names, method, seed=1)
    expected = chosen_by_hand(positives, scores, names, method)
    assert found.abstain == pytest.approx(tuple(expected), abs=0.025)
    curve = operating_points.curve(positives, scores)
    assert found.threshold == method.choose(curve)
    assert found.low <= found.threshold <= found.high


def test_more_patients_know_their_threshold_better():
    def width(count):
        random = np.random.default_rng(0)
        positives = np.arange(count) % 2 == 0
        scores = np.clip(random.normal(0.4 + 0.2 * positives, 0.12), 0.001, 0.999)
        found = operating_points.choose(
            positives,
            scores,
            patients(count),
            operating_points.parse("sensitivity=0.9"),
            1,
        )
        return found.high - found.low

    assert width(2000) < width(50) / 3


def test_images_of_one_kind_have_no_threshold():
    with pytest.raises(ValueError, match="one kind only"):
        operating_points.choose(
            np.full(9, True), np.linspace(0, 1, 9), patients(9), METHODS["default"], 1
        )


def test_each_class_of_many_has_a_threshold_of_its_own():
    random = np.random.default_rng(0)
    labels = random.random((200, 2)) < 0.5
    middles = np.array([0.3, 0.7])
    probabilities = np.clip(random.normal(middles + 0.2 * (labels - 0.5), 0.05), 0, 1)
    found = operating_points.choose_each(
        labels, probabilities, patients(200), METHODS["default"], 1
    )
    assert [each.threshold for each in found] == pytest.approx(middles, abs=0.03)
