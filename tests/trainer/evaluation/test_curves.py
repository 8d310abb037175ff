"""Curves are what counting at each threshold gives."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from trainer.evaluation import bootstrap, curves


def draw(count=200, seed=0):
    random = np.random.default_rng(seed)
    positives = random.random(count) < 0.4
    return positives, np.clip(random.normal(0.35 + 0.3 * positives, 0.2), 0, 1)


def names(count):
    return np.arange(count).astype(str)


def test_a_sweep_counts_at_every_threshold():
    positives, scores = draw()
    found = curves.sweep(positives, scores)
    for row in (0, 40, 100, 163):
        threshold = found.thresholds[row]
        flagged = scores >= threshold
        tp, fp = (flagged & positives).sum(), (flagged & ~positives).sum()
        odds = threshold / (1 - threshold)
        assert found.sensitivity[row] == pytest.approx(flagged[positives].mean())
        assert found.specificity[row] == pytest.approx((~flagged)[~positives].mean())
        assert found.ppv[row] == pytest.approx(positives[flagged].mean())
        assert found.flagged[row] == pytest.approx(flagged.mean())
        assert found.net_benefit[row] == pytest.approx((tp - fp * odds) / 200)
        everyone = positives.mean() - (~positives).mean() * odds
        assert found.net_benefit_of_all[row] == pytest.approx(everyone)
    assert np.isnan(found.npv[0])


def test_the_reliability_is_that_of_scikit_learn():
    positives, scores = draw()
    found = curves.reliability(positives, scores, names(200))
    expected = calibration_curve(positives, scores, n_bins=10, strategy="quantile")
    # Edges that fall on a score belong to one bin or the other.
    assert found.observed == pytest.approx(expected[0], abs=0.06)
    assert found.predicted == pytest.approx(expected[1], abs=0.03)
    assert found.images.sum() == 200
    assert ((found.low <= found.observed) & (found.observed <= found.high)).all()


def test_the_band_is_around_the_roc_curve():
    positives, scores = draw()
    resamples = bootstrap.draw(names(200), 200, seed=1)
    found = curves.roc(positives, scores, resamples)
    middle = np.interp(found.grid, found.false_positive_rate, found.sensitivity)
    inside = (found.low <= middle + 1e-9) & (middle <= found.high + 1e-9)
    assert inside.mean() > 0.95
    assert (found.high - found.low)[20:50].min() > 0.05


def test_a_band_of_scores_that_part_the_classes_has_no_width():
    positives = np.arange(40) >= 20
    resamples = bootstrap.draw(names(40), 50, seed=1)
    found = curves.roc(positives, np.linspace(0, 1, 40), resamples)
    assert found.low[1:].min() == found.high.min() == 1


def test_a_histogram_holds_every_image():
    positives, scores = draw()
    found = curves.histogram(scores, {"a": positives, "b": ~positives})
    assert sum(counts.sum() for counts in found.images.values()) == 200
    assert found.images["a"].sum() == positives.sum()


def test_the_risk_is_that_of_the_images_kept():
    spread = np.array([0.1] * 10 + [0.2] * 5 + [0.3] * 5)
    wrong = np.array([False] * 10 + [True] + [False] * 4 + [True] * 5)
    found = curves.coverage_risk(wrong, spread)
    assert found.coverage.tolist() == [0.5, 0.75, 1.0]
    assert found.risk == pytest.approx([0, 1 / 15, 6 / 20])


def test_a_confusion_matrix_has_labels_in_rows():
    labels = np.eye(3, dtype=bool)[[0, 0, 1, 2]]
    found = curves.confusion(labels, np.array([0, 1, 1, 0]))
    assert found.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
