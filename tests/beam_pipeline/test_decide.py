from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipeline import decide
from beam_pipeline.calibration import CalibrationError
from beam_pipeline.decide import Policy
from beam_pipeline.errors import Flag, Rejected, Rejection
from beam_pipeline.images import rules
from beam_pipeline.manifest import OperatingPoint
from beam_pipeline.records import Outcome, Source, Status
from tests import radiographs

BINARY = radiographs.manifest()
THREE = radiographs.manifest(
    task="multiclass",
    classes=("BACTERIA", "NORMAL", "VIRUS"),
    findings=("BACTERIA", "VIRUS"),
)
POINT = BINARY.operating_points["default"]
MANY = radiographs.manifest(
    task="multilabel",
    classes=("NODULE", "EFFUSION"),
    findings=("NODULE", "EFFUSION"),
    operating_points={
        "default": OperatingPoint(**{**vars(POINT), "thresholds": (0.3, 0.8)})
    },
)


def policy(manifest: object, **choice: object) -> Policy:
    return decide.policy(manifest, "sha256:0", "run", **choice)


def outcome(*probabilities: float) -> Outcome:
    return replace(
        Outcome.of(Source("a.dcm")), probabilities=probabilities, logits=probabilities
    )


@pytest.mark.parametrize(
    ("probability", "positive", "label"),
    [(0.49, False, "DARK"), (0.5, True, "BRIGHT"), (0.9, True, "BRIGHT")],
)
def test_positive_is_a_score_at_or_above_the_threshold(
    probability: float, positive: bool, label: str
) -> None:
    row = decide.decide(outcome(1 - probability, probability), policy(BINARY))
    assert (row.score, row.positive, row.label) == (probability, positive, label)
    assert (row.threshold, row.operating_point) == (0.5, "default")
    assert row.labels == (label,)
    assert row.status == Status.SCORED
    assert row.scored_at is not None


def test_the_label_follows_the_decision_and_not_the_larger_probability() -> None:
    row = decide.decide(outcome(0.7, 0.3), policy(BINARY, operating_point="screening"))
    assert (row.positive, row.label) == (True, "BRIGHT")
    assert row.operating_point == "screening"


def test_a_threshold_of_ones_own_has_no_name() -> None:
    row = decide.decide(outcome(0.7, 0.3), policy(BINARY, threshold=0.25))
    assert (row.positive, row.threshold, row.operating_point) == (True, 0.25, None)


def test_several_findings_add_up_to_the_score() -> None:
    row = decide.decide(outcome(0.3, 0.45, 0.25), policy(THREE))
    assert row.score == pytest.approx(0.55)
    assert (row.positive, row.label) == (True, "BACTERIA")


def test_a_multilabel_image_is_positive_for_any_class() -> None:
    row = decide.decide(outcome(0.4, 0.7), policy(MANY))
    assert (row.score, row.positive) == (0.7, True)
    assert (row.label, row.labels, row.threshold) == (None, ("NODULE",), None)
    row = decide.decide(outcome(0.2, 0.7), policy(MANY))
    assert (row.positive, row.labels) == (False, ())


@pytest.mark.parametrize(
    ("score", "abstained"),
    [(0.39, False), (0.4, True), (0.5, True), (0.59, True), (0.6, False)],
)
def test_a_score_in_the_band_of_its_point_is_not_called(
    score: float, abstained: bool
) -> None:
    banded = OperatingPoint(**{**vars(POINT), "abstain": (0.4, 0.6)})
    points = {"default": banded, "screening": POINT}
    model = radiographs.manifest(operating_points=points)
    image = outcome(1 - score, score)
    row = decide.decide(image, policy(model))
    assert (row.abstained, row.positive) == (abstained, score >= 0.5)
    for choice in ({"operating_point": "screening"}, {"threshold": 0.5}):
        assert decide.decide(image, policy(model, **choice)).abstained is False


def test_a_row_without_probabilities_is_stamped_and_has_no_score() -> None:
    final = Outcome.of(Source("a.dcm")).ended(Rejected(Rejection.BODY_PART, "HAND"))
    row = decide.decide(final, policy(BINARY))
    assert (row.status, row.reason) == ("REJECTED", "BODY_PART")
    assert (row.score, row.positive, row.threshold, row.label) == (None,) * 4
    assert (row.spread, row.abstained) == (None, None)
    assert (row.model_name, row.model_digest, row.run_id) == (
        "brightness",
        "sha256:0",
        "run",
    )


@pytest.mark.parametrize(
    ("outlier_score", "flagged"),
    [(0.1, False), (0.4, False), (0.5, True), (None, True)],
)
def test_an_image_beyond_the_quantile_is_flagged_and_scored(
    outlier_score: float | None, flagged: bool
) -> None:
    image = replace(
        outcome(0.7, 0.3), outlier_score=outlier_score, flags=(Flag.VIEW_UNKNOWN,)
    )
    model = radiographs.manifest(outlier=radiographs.OUTLIER)
    row = decide.decide(image, policy(model, rules=rules.compiled(model)))
    expected = (Flag.VIEW_UNKNOWN, *((Flag.UNLIKE_TRAINING,) if flagged else ()))
    assert row.flags == expected
    assert (row.status, row.score) == (Status.SCORED, 0.3)


def test_a_model_without_an_outlier_score_flags_nothing() -> None:
    image = replace(outcome(0.7, 0.3), outlier_score=99.0)
    assert decide.decide(image, policy(BINARY)).flags == ()


def test_what_was_not_scored_is_not_flagged_as_unlike() -> None:
    final = Outcome.of(Source("a.dcm")).ended(Rejected(Rejection.BODY_PART, "HAND"))
    model = radiographs.manifest(outlier=radiographs.OUTLIER)
    found = decide.decide(final, policy(model, rules=rules.compiled(model)))
    assert found.flags == ()


def test_a_site_may_reject_what_is_unlike_the_training_images(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        "extends='default'\n[[rule]]\nname='like_training'\nreject='UNLIKE_TRAINING'"
    )
    model = radiographs.manifest(outlier=radiographs.OUTLIER)
    image = replace(outcome(0.7, 0.3), outlier_score=99.0, spread=0.1)
    row = decide.decide(image, policy(model, rules=rules.compiled(model, path)))
    assert (row.status, row.reason) == ("REJECTED", "UNLIKE_TRAINING")
    assert (row.score, row.probabilities, row.logits) == (None, None, None)
    assert (row.spread, row.abstained, row.calibration) == (None, None, None)
    assert row.outlier_score == 99.0


SITE = {
    "calibration": radiographs.site_calibration(),
    "calibration_digest": "sha256:site",
}


def test_a_sites_temperature_and_threshold_take_the_place_of_the_models() -> None:
    image = replace(outcome(0.1, 0.9), logits=(0.0, 1.2))
    row = decide.decide(image, policy(BINARY, **SITE))
    expected = 1 / (1 + math.exp(-1.2 / 2))
    assert row.score == pytest.approx(expected, rel=1e-12)
    assert row.probabilities == pytest.approx((1 - expected, expected), rel=1e-12)
    assert (row.threshold, row.positive) == (0.6, True)
    assert (row.operating_point, row.calibration) == ("default", "sha256:site")
    row = decide.decide(replace(image, logits=(0.0, 0.7)), policy(BINARY, **SITE))
    assert (row.score < 0.6, row.positive, row.label) == (True, False, "DARK")


def test_a_threshold_of_ones_own_goes_with_a_sites_temperature() -> None:
    image = replace(outcome(0.1, 0.9), logits=(0.0, 1.2))
    row = decide.decide(image, policy(BINARY, threshold=0.7, **SITE))
    assert row.score == pytest.approx(1 / (1 + math.exp(-0.6)))
    assert (row.positive, row.operating_point) == (False, None)
    assert row.calibration == "sha256:site"


def test_a_site_calibrates_every_class_of_a_multilabel_model() -> None:
    points = {"default": OperatingPoint(**{**vars(POINT), "thresholds": (0.7, 0.4)})}
    site = radiographs.site_calibration(operating_points=points)
    image = replace(outcome(0.9, 0.1), logits=(1.0, -0.5))
    row = decide.decide(image, policy(MANY, calibration=site))
    expected = [1 / (1 + math.exp(-x / 2)) for x in (1.0, -0.5)]
    assert row.probabilities == pytest.approx(expected, rel=1e-12)
    assert row.labels == ("EFFUSION",)
    assert (row.score, row.positive) == (pytest.approx(expected[0]), True)


def test_a_point_that_a_site_lacks_cannot_be_chosen_with_it() -> None:
    with pytest.raises(ValueError, match="Ward 3 has no operating point 'screening'"):
        policy(BINARY, operating_point="screening", **SITE)


def test_a_calibration_for_as_many_classes_as_the_model_has() -> None:
    with pytest.raises(CalibrationError, match="2 of them"):
        policy(MANY, **SITE)


def test_a_row_that_is_not_scored_is_not_calibrated(tmp_path: Path) -> None:
    final = Outcome.of(Source("a.dcm")).ended(Rejected(Rejection.BODY_PART, "HAND"))
    assert decide.decide(final, policy(BINARY, **SITE)).calibration is None
    image = replace(outcome(0.1, 0.9), logits=(math.inf, 0.0), spread=0.1)
    row = decide.decide(image, policy(BINARY, **SITE))
    assert (row.status, row.reason) == ("ERROR", "NAN_SCORE")
    assert (row.score, row.probabilities, row.logits) == (None, None, None)
    assert (row.spread, row.abstained, row.calibration) == (None, None, None)


def test_an_unknown_operating_point_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="default, screening"):
        policy(BINARY, operating_point="screning")


def test_a_row_that_is_rejected_on_second_thoughts_keeps_no_score(
    tmp_path: Path,
) -> None:
    row = decide.decide(outcome(0.1, 0.9), policy(BINARY))
    assert row.positive
    # Its logits are no numbers at the site's temperature.
    site = radiographs.site_calibration()
    broken = replace(row, logits=(math.nan, 1.0))
    again = decide.decide_again(broken, policy(BINARY, calibration=site))
    assert again.status == Status.ERROR
    assert {again.score, again.positive, again.label, again.threshold} == {None}
    assert (again.probabilities, again.logits, again.calibration) == (None,) * 3
    assert again.carried_from == "run"
