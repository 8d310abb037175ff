"""DeLong, against the definition of 1988 by pairs, and clusters by Obuchowski's."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation import delong
from trainer.evaluation.intervals import Absent


def draw(seed=0, patients=60, images_of_each=1, models=2, digits=2):
    random = np.random.default_rng(seed)
    positives = (np.arange(patients) % 3 == 0).repeat(images_of_each)
    names = np.arange(patients).astype(str).repeat(images_of_each)
    common = random.normal(positives * 1.0)
    noise = random.normal(size=(models, len(positives)))
    return positives, (common + 0.6 * noise).round(digits), names


def kernel(found, rest):
    """1 where the pair is in the right order, 0.5 for a tie; (found, rest)."""
    return (found[:, None] > rest) + (found[:, None] == rest) / 2


def by_pairs(positives, scores):
    """AUCs and covariance as DeLong, DeLong & Clarke-Pearson 1988 define them."""
    kernels = [kernel(each[positives], each[~positives]) for each in scores]
    values = np.array([k.mean() for k in kernels])
    below = np.array([k.mean(axis=1) for k in kernels])
    above = np.array([k.mean(axis=0) for k in kernels])
    return values, np.cov(below) / below.shape[1] + np.cov(above) / above.shape[1]


@pytest.mark.parametrize("digits", [0, 1, 6], ids=["many ties", "some", "none"])
def test_values_and_covariance_are_those_of_all_pairs(digits):
    positives, scores, patients = draw(digits=digits)
    found = delong.aucs(positives, scores, patients)
    values, covariance = by_pairs(positives, scores)
    np.testing.assert_allclose(found.values, values)
    np.testing.assert_allclose(found.covariance, covariance)
    assert found.method == "DeLong"


def test_a_patient_with_images_of_both_kinds_counts_as_obuchowski_says():
    random = np.random.default_rng(3)
    patients = random.integers(0, 25, 120)
    positives = random.random(120) < 0.4
    scores = random.normal(positives * 1.0)
    k = kernel(scores[positives], scores[~positives])
    auc, m, n = k.mean(), positives.sum(), (~positives).sum()
    x, y = np.zeros(25), np.zeros(25)
    for patient, placement in zip(patients[positives], k.mean(axis=1), strict=True):
        x[patient] += placement - auc
    for patient, placement in zip(patients[~positives], k.mean(axis=0), strict=True):
        y[patient] += placement - auc
    a, b = len(set(patients[positives])), len(set(patients[~positives]))
    s10, s01 = a / ((a - 1) * m) * (x**2).sum(), b / ((b - 1) * n) * (y**2).sum()
    s11 = 25 / 24 * (x * y).sum()
    expected = s10 / m + s01 / n + 2 * s11 / (m * n)
    found = delong.aucs(positives, scores[None], patients.astype(str))
    assert found.covariance[0, 0] == pytest.approx(expected)
    assert "Obuchowski" in found.method


def test_copies_of_images_do_not_narrow_the_interval():
    positives, scores, patients = draw()
    one = delong.auc(positives, scores[0], patients)
    ten = delong.auc(positives.repeat(10), scores[0].repeat(10), patients.repeat(10))
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high))
    assert (one.n, ten.n) == (60, 600)


def test_the_interval_holds_the_truth_in_19_of_20_samples():
    # Scores N(1, 1) and N(0, 1) have an AUC of Φ(1/√2).
    random = np.random.default_rng(0)
    positives = np.arange(120) % 2 == 0
    names = np.arange(120).astype(str)
    held = 0
    for _ in range(400):
        found = delong.auc(positives, random.normal(positives * 1.0), names)
        held += found.low <= 0.7602499 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_classes_without_overlap_have_an_auc_of_1_and_no_end_above():
    found = delong.auc(np.arange(8) > 3, np.arange(8.0), np.arange(8).astype(str))
    assert (found.value, found.high) == (1, 1)


@pytest.mark.parametrize("positive", [False, True])
def test_images_of_one_kind_have_no_auc(positive):
    names = np.arange(5).astype(str)
    found = delong.auc(np.full(5, positive), np.arange(5.0), names)
    assert isinstance(found, Absent)
    assert "0 patients" in found.reason


def test_one_patient_of_a_kind_has_no_interval():
    positives = np.array([True, True, False, False])
    names = np.array(["a", "a", "b", "c"])
    assert isinstance(delong.auc(positives, np.arange(4.0), names), Absent)


def test_a_model_does_not_differ_from_itself():
    positives, scores, patients = draw(models=1)
    found = delong.aucs(positives, np.stack([scores[0], 3 * scores[0]]), patients)
    same = delong.difference(found, 1, 0)
    assert (same.estimate.value, same.p_value) == (0, 1)


def test_the_p_value_is_uniform_where_two_models_are_as_good():
    p_values = []
    for seed in range(300):
        positives, scores, patients = draw(seed=seed, patients=90, digits=6)
        found = delong.aucs(positives, scores, patients)
        p_values.append(delong.difference(found, 0, 1).p_value)
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_the_difference_knows_that_the_images_are_the_same():
    positives, scores, patients = draw(patients=300)
    found = delong.aucs(positives, scores, patients)
    paired = delong.difference(found, 0, 1).estimate
    apart = np.sqrt(found.covariance[0, 0] + found.covariance[1, 1])
    assert paired.high - paired.low < 2 * 1.96 * apart * 0.8
