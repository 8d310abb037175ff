from __future__ import annotations

import dataclasses

import pytest
from pydicom import uid

from beam_pipeline.errors import Flag, Rejected
from beam_pipeline.images import Header, attributes, eligibility, rules
from beam_pipeline.images.eligibility import Condition, Finding, Rule, Rules
from tests import radiographs

RULES = rules.compiled(radiographs.manifest())


def header(**changes: object) -> Header:
    facts = {
        "format": "DICOM",
        "sop_class_uid": radiographs.CR,
        "modality": "CR",
        "body_part": "CHEST",
        "view_position": "PA",
        "patient_age_years": 4.0,
        "rows": 2000,
        "columns": 1800,
    }
    return Header(**{**facts, **changes})


def judge(accepted: Rules = RULES, **changes: object) -> tuple[str, ...]:
    return eligibility.require(eligibility.check(header(**changes), accepted))


def test_a_frontal_chest_radiograph_passes_without_a_flag() -> None:
    assert judge() == ()
    assert judge(sop_class_uid=radiographs.DX, modality="DX", view_position="AP") == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"has_pixels": False, "sop_class_uid": uid.BasicTextSRStorage}, "NON_IMAGE"),
        ({"sop_class_uid": uid.CTImageStorage}, "UNSUPPORTED_SOP_CLASS"),
        ({"sop_class_uid": None}, "UNSUPPORTED_SOP_CLASS"),
        (
            {"sop_class_uid": uid.SecondaryCaptureImageStorage},
            "UNSUPPORTED_SOP_CLASS",
        ),
        ({"modality": "MG"}, "WRONG_MODALITY"),
        ({"presentation_intent_type": "FOR PROCESSING"}, "FOR_PROCESSING"),
        (
            {"sop_class_uid": uid.DigitalXRayImageStorageForProcessing},
            "FOR_PROCESSING",
        ),
        ({"number_of_frames": 2}, "MULTIFRAME"),
        ({"body_part": "HAND"}, "BODY_PART"),
        ({"body_part": "NOT_A_CODE"}, "BODY_PART"),
        ({"view_position": "LL"}, "LATERAL_VIEW"),
        ({"view_position": "LATERAL"}, "LATERAL_VIEW"),
        ({"view_position": "RLD"}, "UNSUPPORTED_VIEW"),
        ({"patient_age_years": 6.0}, "AGE_OUT_OF_SCOPE"),
        ({"patient_age_years": 0.9}, "AGE_OUT_OF_SCOPE"),
        ({"rows": 63}, "BAD_SIZE"),
        ({"columns": 63}, "BAD_SIZE"),
        ({"rows": 3001, "columns": 1000}, "BAD_SIZE"),
        ({"rows": 1501, "columns": 1000, "pixel_aspect": 2.0}, "BAD_SIZE"),
    ],
    ids=str,
)
def test_a_rule_that_is_broken_rejects(changes: dict, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        judge(**changes)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("field", "flag"),
    [
        ("body_part", Flag.BODY_PART_UNKNOWN),
        ("view_position", Flag.VIEW_UNKNOWN),
        ("modality", Flag.MODALITY_UNKNOWN),
        ("patient_age_years", Flag.AGE_UNKNOWN),
    ],
)
def test_what_is_not_stated_is_flagged(field: str, flag: Flag) -> None:
    assert judge(**{field: None}) == (flag,)


def test_a_png_has_no_header_to_be_refused_for() -> None:
    flags = eligibility.require(eligibility.check(Header(format="PNG"), RULES))
    assert set(flags) == {
        Flag.BODY_PART_UNKNOWN,
        Flag.VIEW_UNKNOWN,
        Flag.MODALITY_UNKNOWN,
        Flag.AGE_UNKNOWN,
    }


def test_a_secondary_capture_is_accepted_where_the_manifest_says_so() -> None:
    classes = (radiographs.CR, uid.SecondaryCaptureImageStorage)
    accepting = dataclasses.replace(radiographs.ELIGIBILITY, sop_classes=classes)
    accepted = rules.compiled(radiographs.manifest(eligibility=accepting))
    assert judge(accepted, sop_class_uid=uid.SecondaryCaptureImageStorage) == ()


def test_every_rule_gives_its_verdict_behind_one_that_rejects() -> None:
    verdicts = eligibility.check(header(number_of_frames=3, view_position="LL"), RULES)
    found = [verdict.finding.code for verdict in verdicts if verdict.finding]
    assert found == ["MULTIFRAME", "LATERAL_VIEW", "UNSUPPORTED_VIEW"]
    names = [verdict.rule for verdict in verdicts]
    assert names == [rule.name for rule in RULES.rules if rule.name != "like_training"]


@pytest.mark.parametrize(
    ("condition", "values", "met"),
    [
        ({"any_of": ("A", "B")}, ("C", "B"), True),
        ({"any_of": ("A", "B")}, ("C",), False),
        ({"any_of": ("A",), "negate": True}, ("A", "C"), False),
        ({"any_of": ("a",)}, ("A",), True),
        ({"any_of": (2,)}, ("2",), True),
        ({"any_of": (True,)}, (True,), True),
        ({"any_of": (True,)}, (False,), False),
        ({"matches": r"^L\\F$"}, ("L", "F"), True),
        ({"matches": "chest"}, ("XR CHEST PA",), True),
        ({"matches": "chest", "negate": True}, ("HAND",), True),
        ({"range": (1, 5)}, (5,), True),
        ({"range": (1, 5)}, ("5.01",), False),
        ({"range": (1, 5)}, ("five",), False),
        ({"absent": True}, (), True),
        ({"absent": True}, ("A",), False),
    ],
    ids=str,
)
def test_a_condition_is_met_or_not(condition: dict, values: tuple, met: bool) -> None:
    assert Condition(attribute="SeriesDescription", **condition).met(values) is met


def test_a_detail_repeats_a_column_and_never_an_attribute() -> None:
    described = header(
        body_part=None, attributes={"SeriesDescription": ("HAND OF CANARY",)}
    )
    with pytest.raises(Rejected) as caught:
        eligibility.require(eligibility.check(described, RULES))
    assert caught.value.reason == "BODY_PART"
    assert "CANARY" not in caught.value.detail
    with pytest.raises(Rejected, match="HAND is not one of CHEST"):
        judge(body_part="HAND")


def test_a_detail_repeats_no_name_that_a_rule_looks_for() -> None:
    condition = Condition(attribute="PatientName", any_of=("CANARY",), negate=True)
    rule = Rule(name="test_patient", test=condition, unmet=Finding(reject="TEST"))
    named = header(attributes={"PatientName": ("CANARY",)})
    [verdict] = eligibility.check(named, Rules((rule,)))
    assert verdict.finding
    assert "CANARY" not in verdict.detail
    assert "CANARY" not in Rules((rule,)).asked.terms


def test_a_patient_s_name_can_be_asked_for() -> None:
    named = radiographs.dicom(radiographs.chest(0.5), PatientName="TEST^PHANTOM")
    assert attributes.texts(named, "PatientName") == ("TEST^PHANTOM",)


def test_a_header_is_asked_for_what_rules_name() -> None:
    asked = RULES.asked
    assert {"SeriesDescription", "ImageType"} <= asked.keywords
    assert not asked.keywords & {"rows", "outlier_score"}
    assert {"CHEST", "PA"} <= asked.terms
