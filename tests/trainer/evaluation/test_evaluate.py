"""Every figure of a question, of a set of predictions, and of a manifest."""

from __future__ import annotations

import numpy as np
import pytest

from beam_pipeline.manifest import Estimate
from tests.trainer import predicted
from tests.trainer.predicted import HALF
from trainer.evaluation import evaluate
from trainer.evaluation.decisions import Decision
from trainer.evaluation.evaluate import Scored
from trainer.evaluation.intervals import Absent

pytestmark = pytest.mark.usefixtures("few_resamples")


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


ORACLES = {
    "auc": auc,
    "average_precision": average_precision,
    "brier_score": lambda positives, scores: ((scores - positives) ** 2).mean(),
    "accuracy": lambda positives, scores: ((scores >= 0.4) == positives).mean(),
}


@pytest.fixture
def figures():
    scored = draw()
    tied = Scored(scored.positives, scored.scores.round(1), scored.patients)
    return tied, evaluate.metrics(tied, tied.scores >= 0.4, seed=1)


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


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (10, 10)])
def test_sensitivity_counts_the_images_with_a_finding_alone(hits, n):
    scores = np.array([0.9] * hits + [0.1] * (n - hits) + [0.9, 0.1])
    positives = np.array([True] * n + [False] * 2)
    names = np.arange(n + 2).astype(str)
    found = evaluate.sensitivity(Scored(positives, scores, names), 0.5)
    assert (found.value, found.n, found.method) == (hits / n, n, "Wilson")


@pytest.mark.parametrize(("hits", "n"), [(0, 4), (3, 4), (50, 50)])
def test_specificity_counts_the_images_without_a_finding_alone(hits, n):
    scores = np.array([0.1] * hits + [0.9] * (n - hits) + [0.1, 0.9, 0.9])
    positives = np.array([False] * n + [True] * 3)
    names = np.arange(n + 3).astype(str)
    found = evaluate.specificity(Scored(positives, scores, names), 0.5)
    assert (found.value, found.n, found.method) == (hits / n, n, "Wilson")


def test_a_score_at_the_threshold_counts_as_a_finding():
    scored = Scored(np.array([True, False]), np.array([0.5, 0.5]), np.array(["a", "b"]))
    assert evaluate.sensitivity(scored, 0.5).value == 1
    assert evaluate.specificity(scored, 0.5).value == 0


@pytest.mark.parametrize("positive", [False, True])
def test_images_of_one_kind_only_give_a_manifest_nothing(positive: bool) -> None:
    scored = Scored(np.full(5, positive), np.linspace(0, 1, 5), np.array(list("abcde")))
    with pytest.raises(ValueError, match="one kind only"):
        evaluate.metrics(scored, scored.scores >= 0.5, seed=1)
    share = evaluate.specificity if positive else evaluate.sensitivity
    with pytest.raises(ValueError, match="one kind only"):
        share(scored, 0.5)


def test_copies_of_images_narrow_no_interval_by_much():
    one, ten = (
        evaluate.metrics(drawn, drawn.scores >= 0.5, 1)
        for drawn in (draw(patients=100, images_of_each=k) for k in (1, 10))
    )
    for name, figure in one.items():
        width = figure.high - figure.low
        assert ten[name].high - ten[name].low == pytest.approx(width, rel=0.05), name
        assert (figure.n, ten[name].n) == (100, 1000)


def test_every_figure_is_around_its_value_and_says_how_it_was_made():
    found = evaluate.evaluate(predicted.binary(), HALF, prevalences=(0.02,))
    figures = {**found.finding, **found.prevalences[0.02], **found.overall}
    for name, figure in figures.items():
        assert isinstance(figure, Estimate), name
        assert figure.low < figure.value < figure.high, name
        assert figure.method


def test_a_class_is_a_question_of_its_own():
    found = evaluate.evaluate(predicted.binary(), HALF)
    normal, finding = found.classes["NORMAL"], found.classes["PNEUMONIA"]
    assert finding["recall"] == found.finding["sensitivity"] == normal["specificity"]
    assert normal["recall"] == found.finding["specificity"] == finding["specificity"]
    assert finding["precision"] == found.finding["ppv"]
    assert normal["precision"] == found.finding["npv"]


def test_several_classes_are_held_against_the_rest():
    predictions = predicted.multiclass()
    found = evaluate.evaluate(predictions, HALF)
    for index, name in enumerate(predictions.classes):
        expected = auc(
            predictions.labels[:, index], predictions.probabilities[:, index]
        )
        assert found.classes[name]["auc"].value == pytest.approx(expected)
    mean = np.mean([each["auc"].value for each in found.classes.values()])
    assert found.overall["auc_macro"].value == pytest.approx(mean)
    assert "f1_weighted" in found.overall


def test_each_label_of_many_is_decided_by_its_own_threshold():
    predictions = predicted.multilabel()
    decision = Decision((0.2, 0.9), "default", "balanced recalls", "validation")
    found = evaluate.evaluate(predictions, decision)
    for name, threshold, on, chance in zip(
        predictions.classes,
        decision.thresholds,
        predictions.labels.T,
        predictions.probabilities.T,
        strict=True,
    ):
        expected = (chance[on] >= threshold).mean()
        assert found.classes[name]["recall"].value == pytest.approx(expected)
    assert "accuracy" not in found.overall


def test_images_of_one_kind_have_reasons_in_the_place_of_figures():
    everything = predicted.binary()
    found = evaluate.evaluate(
        everything.chosen(~everything.positives), HALF, prevalences=(0.1,)
    )
    assert "0 patients with a finding" in found.finding["auc"].reason
    for name in (
        "sensitivity",
        "balanced_accuracy",
        "calibration_slope",
        "lr_positive",
    ):
        assert isinstance(found.finding[name], Absent), name
    assert isinstance(found.prevalences[0.1]["ppv"], Absent)
    assert isinstance(found.finding["specificity"], Estimate)
    assert isinstance(found.finding["brier_score"], Estimate)


def test_a_class_without_images_is_absent_and_the_others_are_not():
    everything = predicted.multiclass()
    found = evaluate.evaluate(everything.chosen(~everything.labels[:, 2]), HALF)
    assert isinstance(found.classes["TB"]["recall"], Absent)
    assert isinstance(found.classes["PNEUMONIA"]["recall"], Estimate)
    assert "a class has no images" in found.overall["recall_macro"].reason


def test_a_control_is_judged_by_the_same_thresholds():
    predictions = predicted.binary()
    blind = predicted.binary(seed=9).chosen(np.arange(120) >= 0)
    found = evaluate.evaluate(predictions, HALF, controls={"blind": blind})
    alone = evaluate.evaluate(blind, HALF)
    assert found.controls["blind"] == alone.finding


def test_no_images_and_no_share_are_refused():
    predictions = predicted.binary()
    with pytest.raises(ValueError, match="no images"):
        evaluate.evaluate(predictions.part("training"), HALF)
    with pytest.raises(ValueError, match=r"prevalence of 1.5"):
        evaluate.evaluate(predictions, HALF, prevalences=(1.5,))
