"""Figures and intervals, against formulas and counting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer import evaluate
from trainer.evaluate import Scored


def draw(seed=0, patients=40, images_of_each=1):
    """Patients whose images all have one answer; findings score higher."""
    random = np.random.default_rng(seed)
    positives = np.arange(patients) % 2 == 0
    scores = 1 / (1 + np.exp(-random.normal(np.where(positives, 0.5, -0.5))))
    names = np.array([f"patient{index}" for index in range(patients)])
    return Scored(*(np.repeat(a, images_of_each) for a in (positives, scores, names)))


def auc(positives, scores):
    """The share of pairs in the right order; a tie is half a pair."""
    pairs = [(f, n) for f in scores[positives] for n in scores[~positives]]
    return sum((f > n) + (f == n) / 2 for f, n in pairs) / len(pairs)


def average_precision(positives, scores):
    """The sum over thresholds of precision times the gain in recall."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        flagged = scores >= threshold
        now = positives[flagged].sum() / positives.sum()
        total += (now - recall) * positives[flagged].mean()
        recall = now
    return total


def share_right(positives, scores):
    return float(((scores >= 0.5) == positives).mean())


ORACLES = {
    "auc": auc,
    "average_precision": average_precision,
    "brier_score": lambda positives, scores: ((scores - positives) ** 2).mean(),
    "accuracy": lambda positives, scores: ((scores >= 0.4) == positives).mean(),
}


@pytest.fixture(scope="module")
def figures():
    scored = draw()
    tied = Scored(scored.positives, scored.scores.round(1), scored.patients)
    return tied, evaluate.metrics(tied, threshold=0.4, seed=1)


def test_the_metrics_are_those_of_the_oracles(figures):
    scored, found = figures
    assert found.keys() == ORACLES.keys()
    values = {name: figure.value for name, figure in found.items()}
    assert values == pytest.approx(
        {name: of(scored.positives, scored.scores) for name, of in ORACLES.items()}
    )


def test_every_metric_has_an_interval_around_it_and_its_number_of_images(figures):
    scored, found = figures
    for figure in found.values():
        assert figure.low < figure.value < figure.high
        assert figure.n == len(scored.scores)


def wilson(hits, n):
    z = 1.959963984540054
    middle = (hits + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(hits * (n - hits) / n + z**2 / 4)
    return middle - half, middle + half


@pytest.mark.parametrize(
    ("hits", "n"), [(0, 10), (1, 10), (7, 10), (10, 10), (95, 100), (300, 300)]
)
def test_sensitivity_has_a_wilson_interval(hits, n):
    scores = np.array([0.9] * hits + [0.1] * (n - hits) + [0.9, 0.1])
    positives = np.array([True] * n + [False] * 2)
    found = evaluate.sensitivity(Scored(positives, scores, scores.astype(str)), 0.5)
    assert (found.value, found.n) == (hits / n, n)
    assert (found.low, found.high) == pytest.approx(wilson(hits, n), abs=1e-9)


@pytest.mark.parametrize(("hits", "n"), [(0, 4), (3, 4), (50, 50)])
def test_specificity_counts_the_images_without_a_finding_alone(hits, n):
    scores = np.array([0.1] * hits + [0.9] * (n - hits) + [0.1, 0.9, 0.9])
    positives = np.array([False] * n + [True] * 3)
    found = evaluate.specificity(Scored(positives, scores, scores.astype(str)), 0.5)
    assert (found.value, found.n) == (hits / n, n)
    assert (found.low, found.high) == pytest.approx(wilson(hits, n), abs=1e-9)


def test_a_score_at_the_threshold_counts_as_a_finding():
    scored = Scored(np.array([True, False]), np.array([0.5, 0.5]), np.array(["a", "b"]))
    assert evaluate.sensitivity(scored, 0.5).value == 1
    assert evaluate.specificity(scored, 0.5).value == 0


def test_more_images_of_the_same_patients_do_not_narrow_the_interval():
    one, ten = (
        evaluate.bootstrap(share_right, draw(images_of_each=k), seed=1) for k in (1, 10)
    )
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high))
    assert (one.n, ten.n) == (40, 400)


def test_more_patients_narrow_the_interval():
    few = evaluate.bootstrap(share_right, draw(patients=40), seed=1)
    many = evaluate.bootstrap(share_right, draw(patients=1000), seed=1)
    assert many.high - many.low < (few.high - few.low) / 3


def test_the_order_of_the_images_does_not_change_the_interval():
    scored = draw(images_of_each=3)
    order = np.random.default_rng(2).permutation(len(scored.scores))
    shuffled = Scored(
        scored.positives[order], scored.scores[order], scored.patients[order]
    )
    found, expected = (
        evaluate.bootstrap(share_right, each, seed=1) for each in (shuffled, scored)
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_interval_is_that_of_a_plain_bootstrap_over_patients():
    scored = draw(patients=30, images_of_each=2)
    # Patients with more images weigh more: what resampling must keep.
    keep = np.array([i for i in range(60) if i % 2 == 0 or i < 30])
    scored = Scored(scored.positives[keep], scored.scores[keep], scored.patients[keep])
    random = np.random.default_rng(99)
    names = sorted(set(scored.patients))
    values = []
    for _ in range(4000):
        drawn = random.choice(names, len(names))
        chosen = np.concatenate([np.flatnonzero(scored.patients == p) for p in drawn])
        values.append(share_right(scored.positives[chosen], scored.scores[chosen]))
    found = evaluate.bootstrap(share_right, scored, seed=1)
    expected = np.percentile(values, [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.03)


def test_a_resample_without_a_finding_is_drawn_again():
    # One patient of four has the finding: a third of all resamples have none.
    seen = []

    def watch(positives, scores):
        seen.append((positives.any(), positives.all()))
        return float(scores.mean())

    scored = Scored(
        np.array([True, False, False, False]),
        np.array([0.9, 0.1, 0.2, 0.3]),
        np.array(["a", "b", "c", "d"]),
    )
    evaluate.bootstrap(watch, scored, seed=1)
    assert all(some and not every for some, every in seen)


def test_a_seed_gives_the_same_interval_again():
    scored = draw(patients=25)
    first, again, other = (
        evaluate.bootstrap(lambda _, scores: float(scores.mean()), scored, seed)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_an_interval_holds_its_value_even_where_resampling_is_biased():
    # The largest of a resample is never above the largest of all.
    scored = draw(patients=500)
    found = evaluate.bootstrap(lambda _, s: float(s.max()) + len(set(s)), scored, 1)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("positive", [False, True])
def test_images_of_one_kind_only_have_no_figures(positive: bool) -> None:
    scored = Scored(np.full(5, positive), np.linspace(0, 1, 5), np.array(list("abcde")))
    with pytest.raises(ValueError, match="one kind only"):
        evaluate.bootstrap(evaluate.METRICS["auc"], scored, seed=1)
