"""Rules 15 to 19 and 30: which files may be scored, by what their headers say.

The rules are numbered; those on stored values, colour, files and studies are in the
files beside this one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset

from beam_pipeline.errors import Flag, Rejected
from beam_pipeline.images import eligibility
from beam_pipeline.images.rules import compiled
from beam_pipeline.records import Outcome
from tests import radiographs
from tests.radiographs import CR, DX, dicom, flags_of, header_of


def film(**attributes: object) -> FileDataset:
    return dicom(radiographs.chest(0.5), **attributes)


def flags(**attributes: object) -> tuple[str, ...]:
    return flags_of(film(**attributes))


def refusal(**attributes: object) -> str:
    with pytest.raises(Rejected) as caught:
        flags(**attributes)
    return str(caught.value.reason)


# Rule 15: SOP class and modality


@pytest.mark.parametrize(("sop_class", "modality"), [(CR, "CR"), (DX, "DX")])
def test_rule_15_radiographs_are_accepted(sop_class: str, modality: str) -> None:
    assert flags(SOPClassUID=sop_class, Modality=modality) == ()


@pytest.mark.parametrize(
    ("sop_class", "modality"),
    [
        (uid.CTImageStorage, "CT"),
        (uid.MRImageStorage, "MR"),
        (uid.UltrasoundImageStorage, "US"),
        (uid.DigitalMammographyXRayImageStorageForPresentation, "MG"),
        (uid.DigitalIntraOralXRayImageStorageForPresentation, "IO"),
        (uid.XRayAngiographicImageStorage, "XA"),
        (uid.SecondaryCaptureImageStorage, "OT"),
        # The SOP class is asked first: Modality is the freer of the two.
        (uid.CTImageStorage, "CR"),
        (uid.SecondaryCaptureImageStorage, "DX"),
    ],
)
def test_rule_15_other_classes_are_rejected_and_named(
    sop_class: str, modality: str, tmp_path: Path
) -> None:
    other = film(SOPClassUID=sop_class, Modality=modality)
    found = radiographs.reading_of(other, tmp_path / "a.dcm")
    assert isinstance(found, Outcome)
    assert (found.status, found.reason) == ("REJECTED", "UNSUPPORTED_SOP_CLASS")
    assert found.sop_class_uid == sop_class
    assert uid.UID(sop_class).name in (found.detail or "")


def test_rule_15_a_secondary_capture_is_accepted_where_the_model_says_so() -> None:
    capture = film(SOPClassUID=uid.SecondaryCaptureImageStorage, Modality="CR")
    accepting = dataclasses.replace(
        radiographs.ELIGIBILITY, sop_classes=(uid.SecondaryCaptureImageStorage,)
    )
    rules = compiled(radiographs.manifest(eligibility=accepting))
    verdicts = eligibility.check(header_of(capture), rules)
    assert eligibility.require(verdicts) == ()


@pytest.mark.parametrize(("sop_class", "modality"), [(CR, "DX"), (DX, "CR")])
def test_rule_15_a_contradiction_is_flagged(sop_class: str, modality: str) -> None:
    assert flags(SOPClassUID=sop_class, Modality=modality) == (Flag.MODALITY_CONFLICT,)


def test_rule_15_another_modality_is_rejected() -> None:
    assert refusal(Modality="CT") == "WRONG_MODALITY"
    assert flags(Modality=None) == (Flag.MODALITY_UNKNOWN,)


# Rule 16: For Processing


def test_rule_16_raw_images_are_rejected_by_class_and_by_intent() -> None:
    raw = uid.DigitalXRayImageStorageForProcessing
    assert refusal(SOPClassUID=raw, Modality="DX") == "FOR_PROCESSING"
    # As archives have it: the class For Presentation, the intent For Processing.
    said = {"SOPClassUID": DX, "Modality": "DX"}
    intent = "PresentationIntentType"
    assert refusal(**said, **{intent: "FOR PROCESSING"}) == "FOR_PROCESSING"
    assert flags(**said, **{intent: "FOR PRESENTATION"}) == ()


# Rule 17: body part


def code(value: str, scheme: str = "SCT") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, scheme
    item.CodeMeaning = "meaning"
    return item


@pytest.mark.parametrize("part", ["CHEST", "chest", " Thorax "])
def test_rule_17_the_chest_is_accepted_in_any_case(part: str) -> None:
    assert flags(BodyPartExamined=part) == ()


@pytest.mark.parametrize("part", ["ABDOMEN", "HAND", "KNEE", "Genou", "Smith"])
def test_rule_17_another_part_is_rejected(part: str) -> None:
    assert refusal(BodyPartExamined=part) == "BODY_PART"


@pytest.mark.parametrize("part", [None, ""])
def test_rule_17_an_empty_one_is_accepted_and_flagged(part: object) -> None:
    assert flags(BodyPartExamined=part) == (Flag.BODY_PART_UNKNOWN,)


def test_rule_17_the_anatomic_region_stands_in() -> None:
    chest, hand = [code("51185008")], [code("85562004")]
    assert flags(BodyPartExamined=None, AnatomicRegionSequence=chest) == ()
    said = {"BodyPartExamined": None, "AnatomicRegionSequence": hand}
    assert refusal(**said) == "BODY_PART"


@pytest.mark.parametrize("keyword", ["SeriesDescription", "ProtocolName"])
def test_rule_17_a_description_rejects_where_no_code_says(keyword: str) -> None:
    assert refusal(**{"BodyPartExamined": None, keyword: "Left hand ap"}) == "BODY_PART"
    assert flags(**{"BodyPartExamined": "CHEST", keyword: "Left hand"}) == ()


@pytest.mark.parametrize(
    ("said", "rejected"),
    [
        ("HANDS", True),
        ("Both knees", True),
        ("L-SPINE", True),
        ("CSPINE LAT", True),
        ("FEET_AP", True),
        ("HAND2", True),
        ("CHEST HEAD UP", False),
        ("THORAX AP, ARMS BESIDE HEAD", False),
        ("HEADQUARTERS", False),
    ],
)
def test_rule_17_what_a_description_names(said: str, rejected: bool) -> None:
    attributes = {"BodyPartExamined": None, "ProtocolName": said}
    if rejected:
        assert refusal(**attributes) == "BODY_PART"
    else:
        assert Flag.BODY_PART_UNKNOWN in flags(**attributes)


# Rule 18: view


@pytest.mark.parametrize("view", ["PA", "AP", "ap "])
def test_rule_18_frontal_views_are_accepted(view: str) -> None:
    assert flags(ViewPosition=view) == ()


@pytest.mark.parametrize("view", ["LL", "RL", "LATERAL", "LAT", "R LAT"])
def test_rule_18_lateral_views_are_rejected(view: str) -> None:
    assert refusal(ViewPosition=view) == "LATERAL_VIEW"


LATERAL_CODE, FRONTAL_CODE = [code("399067008")], [code("272479007")]


@pytest.mark.parametrize(
    ("said", "source", "lateral"),
    [
        ({"ViewCodeSequence": LATERAL_CODE}, "ViewCodeSequence", True),
        ({"ViewCodeSequence": FRONTAL_CODE}, "ViewCodeSequence", False),
        ({"PatientOrientation": ["A", "F"]}, "PatientOrientation", True),
        ({"PatientOrientation": ["P", "F"]}, "PatientOrientation", True),
        ({"PatientOrientation": ["L", "F"]}, "PatientOrientation", False),
        ({"SeriesDescription": "Chest lat"}, "SeriesDescription", True),
        ({"ProtocolName": "CHEST PA"}, "ProtocolName", False),
    ],
    ids=str,
)
def test_rule_18_other_attributes_stand_in(
    said: dict, source: str, lateral: bool
) -> None:
    attributes = {"ViewPosition": None, **said}
    assert header_of(film(**attributes)).view_source == source
    if lateral:
        assert refusal(**attributes) == "LATERAL_VIEW"
    else:
        assert flags(**attributes) == ()


def test_rule_18_the_sources_are_asked_in_order() -> None:
    """Each says the contrary of the next."""
    said: dict = {
        "ViewPosition": "PA",
        "ViewCodeSequence": LATERAL_CODE,
        "PatientOrientation": ["L", "F"],
        "SeriesDescription": "CHEST LATERAL",
    }
    found = []
    while said:
        header = header_of(film(**{"ViewPosition": None, **said}))
        found.append((header.view_source, header.view_position))
        del said[next(iter(said))]
    assert found == [
        ("ViewPosition", "PA"),
        ("ViewCodeSequence", "LATERAL"),
        ("PatientOrientation", "FRONTAL"),
        ("SeriesDescription", "LATERAL"),
    ]


def test_rule_18_a_coded_view_of_another_kind_is_not_frontal() -> None:
    """An oblique view lies across the body too."""
    oblique = {
        "ViewPosition": None,
        "ViewCodeSequence": [code("399260004")],
        "PatientOrientation": ["L", "F"],
    }
    assert refusal(**oblique) == "UNSUPPORTED_VIEW"


def test_rule_18_a_view_that_nothing_tells_is_flagged() -> None:
    assert flags(ViewPosition=None) == (Flag.VIEW_UNKNOWN,)
    both = {"ViewPosition": "", "SeriesDescription": "CHEST PA AND LAT"}
    assert flags(**both) == (Flag.VIEW_UNKNOWN,)


# Rule 19: age, for a model of children of 1 to 5 years


@pytest.mark.parametrize("age", ["001Y", "012M", "005Y", "071M", "4Y", "04 Y"])
def test_rule_19_completed_years_within_the_scope(age: str) -> None:
    assert flags(PatientAge=age) == ()


@pytest.mark.parametrize("age", ["011M", "300D", "006Y", "072M", "090Y", "45Y"])
def test_rule_19_other_ages_are_rejected(age: str) -> None:
    assert refusal(PatientAge=age) == "AGE_OUT_OF_SCOPE"


def test_rule_19_a_child_is_five_until_the_sixth_birthday() -> None:
    born = {"PatientAge": None, "PatientBirthDate": "20180615"}
    assert flags(**born, StudyDate="20240614") == ()
    assert refusal(**born, StudyDate="20240615") == "AGE_OUT_OF_SCOPE"


@pytest.mark.parametrize("age", [None, "", "old"])
def test_rule_19_an_unknown_age_is_flagged(age: object) -> None:
    assert flags(PatientAge=age) == (Flag.AGE_UNKNOWN,)


def test_rule_19_a_model_without_a_scope_asks_no_age() -> None:
    unscoped = dataclasses.replace(radiographs.ELIGIBILITY, patient_age_years=None)
    rules = compiled(radiographs.manifest(eligibility=unscoped))
    verdicts = eligibility.check(header_of(film(PatientAge="090Y")), rules)
    assert eligibility.require(verdicts) == ()


# Rule 30: orientation


@pytest.mark.parametrize(
    "said",
    [
        {"PatientOrientation": ["R", "F"]},
        {"PatientOrientation": ["L", "H"]},
        {"PatientOrientation": ["F", "L"]},
        {"FieldOfViewRotation": 90},
        {"FieldOfViewRotation": 180},
        {"FieldOfViewHorizontalFlip": "YES"},
    ],
    ids=str,
)
def test_rule_30_a_turned_or_mirrored_image_is_flagged(said: dict) -> None:
    assert flags(**said) == (Flag.UNUSUAL_ORIENTATION,)


def test_rule_30_an_upright_one_is_not() -> None:
    said = {"FieldOfViewRotation": 0, "FieldOfViewHorizontalFlip": "NO"}
    for orientation in (["L", "F"], ["LF", "F"]):
        assert flags(PatientOrientation=orientation, **said) == ()
