"""Models are compared on the same images, and chance is told from difference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.trainer import predicted
from tests.trainer.predicted import HALF
from trainer.evaluation import compare, evaluate
from trainer.evaluation.compare import Candidate

pytestmark = pytest.mark.usefixtures("few_resamples")


def noisier(predictions, deviation, seed=5):
    random = np.random.default_rng(seed)
    moved = predictions.logits + random.normal(0, deviation, predictions.logits.shape)
    return replace(predictions, logits=moved)


@pytest.fixture
def pair():
    good = predicted.binary(count=200)
    return [
        Candidate("good", good, HALF),
        Candidate("noisy", noisier(good, 2.0), HALF),
    ]


def test_figures_and_differences_are_those_of_each_model(pair):
    found = compare.compare(pair, seed=1)
    good, noisy = (
        evaluate.evaluate(each.predictions, each.decision).finding for each in pair
    )
    assert found.figures == {"good": good, "noisy": noisy}
    (only,) = found.pairs
    for name, difference in only.differences.items():
        expected = noisy[name].value - good[name].value
        assert difference.value == pytest.approx(expected), name
        assert difference.low < difference.high
    assert only.auc.estimate.value == pytest.approx(only.differences["auc"].value)
    assert only.auc.estimate.high < 0
    assert only.auc.p_value < 0.05


def test_the_order_of_the_rows_does_not_matter(pair):
    found = compare.compare(pair, seed=1)
    moved = replace(pair[1], predictions=predicted.shuffled(pair[1].predictions))
    assert compare.compare([pair[0], moved], seed=1).pairs == found.pairs


def test_a_model_does_not_differ_from_itself(pair):
    again = replace(pair[0], name="again")
    (found,) = compare.compare([pair[0], again], seed=1).pairs
    assert (found.auc.p_value, found.mcnemar.p_value) == (1, 1)
    assert {each.value for each in found.differences.values()} == {0}


def test_other_images_are_refused_with_their_number(pair):
    fewer = pair[1].predictions.chosen(np.arange(200) >= 7)
    with pytest.raises(ValueError, match="7 are of good alone, 0 of noisy alone, 193"):
        compare.compare([pair[0], replace(pair[1], predictions=fewer)], seed=1)


def test_other_labels_are_refused_with_their_number(pair):
    labels = pair[1].predictions.labels.copy()
    labels[:3] = ~labels[:3]
    other = replace(pair[1].predictions, labels=labels)
    with pytest.raises(ValueError, match="3 images have other labels"):
        compare.compare([pair[0], replace(pair[1], predictions=other)], seed=1)


def test_other_classes_are_refused(pair):
    other = Candidate("other", predicted.multiclass(200), HALF)
    with pytest.raises(ValueError, match="different questions"):
        compare.compare([pair[0], other], seed=1)


def test_one_model_and_two_of_one_name_are_refused(pair):
    with pytest.raises(ValueError, match="two models or more"):
        compare.compare(pair[:1], seed=1)
    with pytest.raises(ValueError, match="give --name"):
        compare.compare([pair[0], pair[0]], seed=1)


@pytest.mark.parametrize("make", [predicted.multiclass, predicted.multilabel])
def test_several_classes_are_compared_over_all_of_them_too(make):
    predictions = make()
    decision = replace(
        HALF, thresholds=(0.5,) * (2 if make is predicted.multilabel else 1)
    )
    one = Candidate("one", predictions, decision)
    two = Candidate("two", noisier(predictions, 1.5), decision)
    (found,) = compare.compare([one, two], seed=1).pairs
    assert found.overall["auc_macro"].value < 0


def test_a_third_model_is_held_against_the_first(pair):
    third = Candidate("third", noisier(pair[0].predictions, 1, seed=8), HALF)
    found = compare.compare([*pair, third], seed=1)
    pairs = [(each.reference, each.other) for each in found.pairs]
    assert pairs == [("good", "noisy"), ("good", "third")]


def singles(count):
    return np.arange(count).astype(str)


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (0, 6), (3, 12), (10, 11), (9, 9)]
)
def test_with_one_image_a_patient_the_test_is_the_binomial_one(gained, lost):
    count = gained + lost + 30
    right = np.arange(count) < gained
    before = (np.arange(count) >= gained) & (np.arange(count) < gained + lost)
    found = compare.mcnemar(right, before, singles(count))
    assert (found.only_other, found.only_reference) == (gained, lost)
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1
    assert found.p_value == pytest.approx(expected)


def test_images_of_a_patient_change_sides_together():
    # Six discordant images, all of one patient, say as much as one.
    right = np.arange(20) < 6
    patients = np.array(["a"] * 6 + [str(i) for i in range(14)])
    assert compare.mcnemar(right, ~right & False, patients).p_value == 1
    assert compare.mcnemar(right, ~right & False, singles(20)).p_value < 0.05


def test_the_clustered_test_is_that_of_all_sign_changes():
    random = np.random.default_rng(0)
    right, before = random.random((2, 40)) < np.array([[0.8], [0.6]])
    patients = singles(10).repeat(4)
    balance = (right.astype(int) - before).reshape(10, 4).sum(axis=1)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1)
    sums = np.abs(balance @ signs)
    expected = (sums >= abs(balance.sum())).mean()
    found = compare.mcnemar(right, before, patients)
    assert found.p_value == pytest.approx(expected)


def test_decisions_that_change_are_counted_by_what_they_cost():
    positives = np.array([1, 1, 1, 1, 0, 0, 0], bool)
    before = np.array([1, 0, 0, 1, 1, 1, 0], bool)
    after = np.array([0, 1, 1, 1, 0, 1, 1], bool)
    found = compare.reclassification(positives, after, before)
    assert (found.findings, found.findings_gained, found.findings_lost) == (4, 2, 1)
    assert (found.others, found.alarms_gained, found.alarms_lost) == (3, 1, 1)
