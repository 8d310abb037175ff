"""Decisions on arrays are those that the job takes on rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from beam_pipeline import decide
from beam_pipeline.records import Outcome
from tests import radiographs
from tests.trainer import predicted
from trainer.evaluation import decisions, operating_points
from trainer.evaluation.decisions import Decision


def outcomes(predictions, thresholds):
    """What `beam_pipeline.decide` says of each image."""
    known = radiographs.manifest().operating_points["default"]
    point = replace(known, thresholds=thresholds)
    manifest = radiographs.manifest(
        task=predictions.task,
        classes=predictions.classes,
        findings=predictions.findings,
        operating_points={"default": point},
    )
    policy = decide.policy(manifest, "sha256:0", "run")
    return [
        decide.decide(
            Outcome(source_uri="x", probabilities=tuple(row), logits=tuple(row)), policy
        )
        for row in predictions.probabilities.tolist()
    ]


@pytest.mark.parametrize(
    ("predictions", "thresholds"),
    [
        (predicted.binary(), (0.3,)),
        (predicted.multiclass(), (0.8,)),
        (replace(predicted.multiclass(), findings=("TB",)), (0.4,)),
        (
            replace(predicted.multiclass(), findings=("NORMAL", "PNEUMONIA", "TB")),
            (0.5,),
        ),
        (predicted.multilabel(), (0.3, 0.8)),
        (replace(predicted.multilabel(), findings=("NODULE",)), (0.3, 0.8)),
    ],
    ids=["binary", "three", "one finding", "findings alone", "labels", "one label"],
)
def test_the_job_decides_the_same(predictions, thresholds):
    decision = Decision(thresholds, "default", "", "")
    rows = outcomes(predictions, thresholds)
    assert decision.flagged(predictions).tolist() == [row.positive for row in rows]
    of_classes = decision.of_classes(predictions)
    named = [tuple(np.array(predictions.classes)[row].tolist()) for row in of_classes]
    assert named == [row.labels for row in rows]


def test_a_number_is_for_the_score_or_for_every_class():
    assert decisions.given(0.4, predicted.multiclass()).thresholds == (0.4,)
    assert decisions.given(0.4, predicted.multilabel()).thresholds == (0.4, 0.4)
    with pytest.raises(ValueError, match="not between 0 and 1"):
        decisions.given(1.4, predicted.binary())


def test_a_model_has_its_own_points_and_no_others():
    manifest = radiographs.manifest()
    found = decisions.of_manifest(manifest, "default")
    assert found.thresholds == manifest.operating_points["default"].thresholds
    with pytest.raises(ValueError, match="has no operating point 'best'; it has"):
        decisions.of_manifest(manifest, "best")


def test_a_point_is_chosen_on_validation_images_alone():
    predictions = predicted.binary()
    found = decisions.chosen(predictions, "sensitivity=0.8", seed=1)
    tuned = predictions.part("validation")
    curve = operating_points.curve(tuned.positives, tuned.scores)
    expected = operating_points.parse("sensitivity=0.8").choose(curve)
    assert found.thresholds == (expected,)
    assert (found.name, found.chosen_on) == ("sensitivity=0.8", "validation")
    ((low, high),) = found.ranges
    assert low < expected < high
    with pytest.raises(ValueError, match="these predictions have none"):
        decisions.chosen(predictions.part("held_out"), "youden", seed=1)


def test_a_point_of_many_labels_has_a_threshold_for_each():
    assert len(decisions.chosen(predicted.multilabel(), "youden", 1).thresholds) == 2
