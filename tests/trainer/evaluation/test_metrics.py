"""Weighted metrics, against scikit-learn and against images that are repeated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn import metrics as oracle
from sklearn.linear_model import LogisticRegression

from trainer.evaluation import metrics


def draw(seed=0, count=80, digits=2):
    random = np.random.default_rng(seed)
    positives = random.random(count) < 0.4
    scores = expit(random.normal(2.0 * positives - 1, 1.2)).round(digits)
    return positives, np.clip(scores, 0.01, 0.99)


def draw_classes(seed=0, count=120, classes=3):
    random = np.random.default_rng(seed)
    truth = random.integers(classes, size=count)
    logits = random.normal(size=(count, classes)) + 1.3 * np.eye(classes)[truth]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, chances, chances.argmax(axis=1)


def of_all(measure, count):
    return {name: float(v[0]) for name, v in measure(np.ones((1, count))).items()}


DRAWS = pytest.mark.parametrize("seed", range(4))


@DRAWS
@pytest.mark.parametrize("digits", [1, 6], ids=["ties", "no ties"])
def test_figures_of_scores_are_those_of_scikit_learn(seed, digits):
    positives, scores = draw(seed, digits=digits)
    found = of_all(metrics.of_scores(positives, scores), 80)
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(positives, scores))
    expected = oracle.average_precision_score(positives, scores)
    assert found["average_precision"] == pytest.approx(expected)
    expected = oracle.brier_score_loss(positives, scores)
    assert found["brier_score"] == pytest.approx(expected)
    assert found["log_loss"] == pytest.approx(oracle.log_loss(positives, scores))


@DRAWS
def test_the_slope_is_that_of_a_logistic_regression_on_the_logit(seed):
    positives, scores = draw(seed, count=300)
    line = LogisticRegression(C=np.inf, tol=1e-10).fit(
        logit(scores)[:, None], positives
    )
    found = of_all(metrics.of_scores(positives, scores), 300)
    assert found["calibration_slope"] == pytest.approx(line.coef_[0, 0], rel=1e-4)


@DRAWS
def test_the_intercept_makes_the_mean_score_the_share_of_positives(seed):
    positives, scores = draw(seed)
    found = of_all(metrics.of_scores(positives, scores), 80)
    shifted = expit(logit(scores) + found["calibration_intercept"])
    assert shifted.mean() == pytest.approx(positives.mean())


def test_calibrated_scores_have_a_slope_of_1_and_an_intercept_of_0():
    random = np.random.default_rng(0)
    scores = random.beta(1, 1, 40_000)
    positives = random.random(40_000) < scores
    found = of_all(metrics.of_scores(positives, scores), 40_000)
    assert found["calibration_slope"] == pytest.approx(1, abs=0.03)
    assert found["calibration_intercept"] == pytest.approx(0, abs=0.03)
    assert found["ece_equal_width"] < 0.02
    assert found["ece_equal_mass"] < 0.02


def ece(positives, scores, bins):
    total = 0.0
    for each in set(bins):
        here = bins == each
        total += here.mean() * abs(scores[here].mean() - positives[here].mean())
    return total


@DRAWS
def test_the_calibration_error_is_the_gap_in_each_bin(seed):
    positives, scores = draw(seed, count=200, digits=6)
    found = of_all(metrics.of_scores(positives, scores), 200)
    width = np.minimum(np.floor(scores * 10), 9)
    assert found["ece_equal_width"] == pytest.approx(ece(positives, scores, width))
    mass = np.argsort(np.argsort(scores)) // 20
    assert found["ece_equal_mass"] == pytest.approx(ece(positives, scores, mass))


def test_bins_of_equal_mass_are_as_full_as_each_other_and_part_no_ties():
    assert np.bincount(metrics.equal_mass(np.linspace(0, 1, 50))).tolist() == [5] * 10
    assert len(set(metrics.equal_mass(np.full(50, 0.3)))) == 1


@DRAWS
def test_figures_of_decisions_are_those_of_scikit_learn(seed):
    positives, scores = draw(seed)
    flagged = scores >= 0.4
    found = of_all(metrics.of_flags(positives, flagged), 80)
    expected = {
        "sensitivity": oracle.recall_score(positives, flagged),
        "specificity": oracle.recall_score(~positives, ~flagged),
        "ppv": oracle.precision_score(positives, flagged),
        "npv": oracle.precision_score(~positives, ~flagged),
        "accuracy": oracle.accuracy_score(positives, flagged),
        "balanced_accuracy": oracle.balanced_accuracy_score(positives, flagged),
        "youden_index": oracle.balanced_accuracy_score(
            positives, flagged, adjusted=True
        ),
        "f1": oracle.f1_score(positives, flagged),
        "mcc": oracle.matthews_corrcoef(positives, flagged),
        "kappa": oracle.cohen_kappa_score(positives, flagged),
    }
    assert found == pytest.approx(expected)


@DRAWS
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_figures_of_several_classes_are_those_of_scikit_learn(seed, classes):
    truth, _, decided = draw_classes(seed, classes=classes)
    found = of_all(metrics.of_classes(truth, decided, classes), 120)
    expected = {
        f"{name}_{average}": function(truth, decided, average=average)
        for average in ("macro", "weighted")
        for name, function in (
            ("precision", oracle.precision_score),
            ("recall", oracle.recall_score),
            ("f1", oracle.f1_score),
        )
    }
    assert found == pytest.approx(
        {
            **expected,
            "accuracy": oracle.accuracy_score(truth, decided),
            "balanced_accuracy": oracle.balanced_accuracy_score(truth, decided),
            "mcc": oracle.matthews_corrcoef(truth, decided),
            "kappa": oracle.cohen_kappa_score(truth, decided),
        }
    )


@DRAWS
def test_figures_of_probabilities_are_those_of_scikit_learn(seed):
    truth, chances, _ = draw_classes(seed)
    labels = np.eye(3, dtype=bool)[truth]
    found = of_all(metrics.of_probabilities(labels, chances, exclusive=True), 120)
    expected = {
        "auc_macro": oracle.roc_auc_score(truth, chances, multi_class="ovr"),
        "average_precision_macro": oracle.average_precision_score(labels, chances),
        "brier_score": ((chances - labels) ** 2).sum(axis=1).mean(),
        "log_loss": oracle.log_loss(truth, chances),
    }
    assert found == pytest.approx(expected)


def test_errors_of_many_labels_are_means_over_the_classes():
    random = np.random.default_rng(0)
    labels, chances = random.random((50, 4)) < 0.3, random.uniform(0.05, 0.95, (50, 4))
    found = of_all(metrics.of_probabilities(labels, chances, exclusive=False), 50)
    pairs = list(zip(labels.T, chances.T, strict=True))
    assert found["log_loss"] == pytest.approx(
        np.mean([oracle.log_loss(on, chance) for on, chance in pairs])
    )
    assert found["brier_score"] == pytest.approx(
        np.mean([oracle.brier_score_loss(on, chance) for on, chance in pairs])
    )


def measures(positives, scores):
    truth, chances, decided = draw_classes(count=len(positives))
    labels = np.eye(3, dtype=bool)[truth]
    return {
        "scores": (metrics.of_scores, (positives, scores)),
        "flags": (metrics.of_flags, (positives, scores >= 0.5)),
        "classes": (lambda t, d: metrics.of_classes(t, d, 3), (truth, decided)),
        "probabilities": (
            lambda on, p: metrics.of_probabilities(on, p, exclusive=True),
            (labels, chances),
        ),
    }


@pytest.mark.parametrize("kind", ["scores", "flags", "classes", "probabilities"])
def test_a_weight_is_as_many_copies_of_the_image(kind):
    positives, scores = draw(count=60)
    make, arguments = measures(positives, scores)[kind]
    random = np.random.default_rng(5)
    weights = random.multinomial(60, np.full(60, 1 / 60), size=5).astype(float)
    found = make(*arguments)(weights)
    for row, weight in enumerate(weights):
        copies = np.arange(60).repeat(weight.astype(int))
        expected = of_all(make(*(a[copies] for a in arguments)), len(copies))
        for name, values in found.items():
            # Its bins are those of all images, and not of the resample.
            if name != "ece_equal_mass":
                assert values[row] == pytest.approx(expected[name], rel=1e-6), name


def test_images_of_one_kind_have_no_figure_that_needs_both():
    scores = np.linspace(0.1, 0.9, 20)
    for positives in (np.full(20, True), np.full(20, False)):
        measure = metrics.joined(
            [
                metrics.of_scores(positives, scores),
                metrics.of_flags(positives, scores > 0),
            ]
        )
        found = of_all(measure, 20)
        for name in ("auc", "calibration_slope", "calibration_intercept", "mcc"):
            assert np.isnan(found[name]), name
            assert name in metrics.UNDEFINED
        assert found["brier_score"] > 0


def test_what_can_be_undefined_has_a_reason():
    nothing = np.full(20, False)
    found = of_all(
        metrics.joined(
            [
                metrics.of_scores(nothing, np.full(20, 0.5)),
                metrics.of_flags(nothing, nothing),
                metrics.of_classes(np.zeros(20, int), np.zeros(20, int), 3),
                metrics.of_probabilities(
                    np.zeros((20, 3), bool), np.full((20, 3), 0.1), exclusive=False
                ),
            ]
        ),
        20,
    )
    undefined = {name for name, value in found.items() if np.isnan(value)}
    assert undefined
    assert undefined <= metrics.UNDEFINED.keys()


def test_scores_that_part_the_classes_have_no_slope():
    positives = np.arange(40) >= 20
    found = of_all(metrics.of_scores(positives, np.where(positives, 0.8, 0.3)), 40)
    assert np.isnan(found["calibration_slope"])
    assert found["auc"] == 1


def test_scores_that_are_bold_and_wrong_are_recalibrated_too():
    random = np.random.default_rng(0)
    positives = np.arange(200) % 2 == 0
    scores = expit(random.normal(0.3 * positives, 1) * 4)
    line = LogisticRegression(C=np.inf, tol=1e-10).fit(
        logit(scores)[:, None], positives
    )
    found = of_all(metrics.of_scores(positives, scores), 200)
    assert found["calibration_slope"] == pytest.approx(line.coef_[0, 0], rel=1e-3)
    low = of_all(metrics.of_scores(positives, np.full(200, 0.001)), 200)
    assert low["calibration_intercept"] == pytest.approx(-logit(0.001))


def test_scores_of_0_and_1_have_a_log_loss():
    positives = np.array([True, False, True])
    found = of_all(metrics.of_scores(positives, np.array([0.0, 0.0, 1.0])), 3)
    assert 5 < found["log_loss"] < 6


def test_a_difference_is_that_of_the_same_images():
    positives, scores = draw()
    one, other = (metrics.of_scores(positives, s) for s in (scores, scores**2))
    found = of_all(metrics.difference(one, other), 80)
    assert found["auc"] == pytest.approx(0)
    expected = of_all(one, 80)["brier_score"] - of_all(other, 80)["brier_score"]
    assert found["brier_score"] == pytest.approx(expected)
