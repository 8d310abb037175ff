"""Subgroups are the figures of their own images, or too few of them."""

from __future__ import annotations

import numpy as np
import pytest

from beam_pipeline.manifest import Estimate
from tests.trainer import predicted
from trainer.evaluation import delong, evaluate, subgroups
from trainer.evaluation.intervals import Absent


def rows_of(predictions):
    return subgroups.subgroups(predictions, predicted.HALF.flagged(predictions))


def test_a_subgroup_has_the_figures_of_its_images():
    predictions = predicted.binary()
    sex = np.where(np.arange(120) % 6 < 3, "F", "M")
    found = {
        row.value: row for row in rows_of(predicted.with_column(predictions, sex=sex))
    }
    assert found.keys() == {"F", "M"}
    for value, row in found.items():
        of = predictions.chosen(sex == value)
        scored = evaluate.scored_of(of)
        assert (row.images, row.patients) == (60, 60)
        assert row.positives == of.positives.sum()
        assert row.auc == delong.auc(of.positives, of.scores, of.patients)
        assert row.sensitivity == evaluate.sensitivity(scored, 0.5)
        assert row.specificity == evaluate.specificity(scored, 0.5)


def test_few_images_have_no_figures_and_say_so():
    site = np.where(np.arange(120) < 29, "small", "")
    small, rest = rows_of(predicted.with_column(predicted.binary(), site=site))
    assert (small.value, small.images) == ("small", 29)
    for figure in (small.auc, small.sensitivity, small.specificity):
        assert isinstance(figure, Absent)
        assert "too few" in figure.reason
    assert rest.value == "not stated"
    assert isinstance(rest.auc, Estimate)


def test_few_images_of_a_kind_have_none_either():
    predictions = predicted.binary()
    view = np.where(predictions.positives | (np.arange(120) < 18), "AP", "PA")
    found = {r.value: r for r in rows_of(predicted.with_column(predictions, view=view))}
    assert found["AP"].images - found["AP"].positives == 9
    assert isinstance(found["AP"].auc, Absent)


def test_a_subtype_is_held_against_all_images_without_a_finding():
    predictions = predicted.binary()
    third = np.arange(120) % 3 == 0
    subtype = np.where(predictions.positives, np.where(third, "virus", "bacteria"), "")
    found = {
        r.value: r for r in rows_of(predicted.with_column(predictions, subtype=subtype))
    }
    assert found.keys() == {"bacteria", "virus"}
    assert (found["virus"].images, found["virus"].positives) == (80, 20)
    assert found["virus"].specificity == found["bacteria"].specificity


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("0", "under 1 year"),
        ("011M", "under 1 year"),
        ("300D", "under 1 year"),
        ("012M", "1–5 years"),
        ("4", "1–5 years"),
        ("4.5", "1–5 years"),
        ("005Y", "1–5 years"),
        ("6", "6–11 years"),
        ("017Y", "12–17 years"),
        ("39.9", "18–39 years"),
        ("064Y", "40–64 years"),
        ("65", "65–79 years"),
        ("101", "80 years and over"),
        ("", "not stated"),
        ("old", "not stated"),
        ("-3", "not stated"),
    ],
)
def test_an_age_is_in_its_band(age, band):
    assert subgroups.age_band(age) == band


def test_ages_come_from_young_to_old():
    ages = np.where(np.arange(120) < 40, "70", np.where(np.arange(120) < 80, "3", ""))
    found = rows_of(predicted.with_column(predicted.binary(), age=ages))
    assert [row.value for row in found] == ["1–5 years", "65–79 years", "not stated"]
