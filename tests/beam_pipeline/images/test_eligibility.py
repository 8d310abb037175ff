from __future__ import annotations

import pytest
from pydicom import uid

from beam_pipeline.errors import Flag, Rejected
from beam_pipeline.images import Header, eligibility
from tests import radiographs


def header(**changes: object) -> Header:
    facts = {
        "format": "DICOM",
        "sop_class_uid": radiographs.CR,
        "modality": "CR",
        "body_part": "CHEST",
        "view_position": "PA",
    }
    return Header(**{**facts, **changes})


def judge(**changes: object) -> tuple[Flag, ...]:
    verdicts = eligibility.check(header(**changes), radiographs.ELIGIBILITY)
    return eligibility.require(verdicts)


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
    ],
)
def test_what_is_not_stated_is_flagged(field: str, flag: Flag) -> None:
    assert judge(**{field: None}) == (flag,)


def test_a_png_has_no_header_to_be_refused_for() -> None:
    flags = eligibility.require(
        eligibility.check(Header(format="PNG"), radiographs.ELIGIBILITY)
    )
    assert set(flags) == {
        Flag.BODY_PART_UNKNOWN,
        Flag.VIEW_UNKNOWN,
        Flag.MODALITY_UNKNOWN,
    }


def test_a_secondary_capture_is_accepted_where_the_manifest_says_so() -> None:
    import dataclasses

    accepting = dataclasses.replace(
        radiographs.ELIGIBILITY,
        sop_classes=(radiographs.CR, uid.SecondaryCaptureImageStorage),
    )
    capture = header(sop_class_uid=uid.SecondaryCaptureImageStorage)
    assert eligibility.require(eligibility.check(capture, accepting)) == ()


def test_every_rule_gives_its_verdict_behind_one_that_rejects() -> None:
    verdicts = eligibility.check(
        header(number_of_frames=3, view_position="LL"), radiographs.ELIGIBILITY
    )
    assert len(verdicts) == len(eligibility.RULES)
    assert [v.finding for v in verdicts if v.finding] == ["MULTIFRAME", "LATERAL_VIEW"]
