from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from beam_pipeline import read
from beam_pipeline.images import eligibility, rules
from beam_pipeline.read import Reading
from beam_pipeline.records import Metadata, Outcome, Ready, Source
from tests import radiographs

MANIFEST = radiographs.manifest()
READING = Reading(preparation=MANIFEST.preparation, rules=rules.compiled(MANIFEST))


def last(source: Source) -> Ready | Outcome:
    return list(READING(source))[-1]


def write(path: Path, **attributes: object) -> bytes:
    dataset = radiographs.dicom(radiographs.chest(0.5), **attributes)
    data = radiographs.to_bytes(dataset)
    path.write_bytes(data)
    return data


def test_an_eligible_file_is_ready_with_its_facts(tmp_path: Path) -> None:
    data = write(tmp_path / "a.dcm", ViewPosition=None)
    found = last(Source(str(tmp_path / "a.dcm"), len(data)))
    assert isinstance(found, Ready)
    assert found.image.shape == (radiographs.SIZE, radiographs.SIZE, 1)
    assert found.image.dtype == np.uint8
    row = found.outcome
    assert row.source_digest == f"blake3:{blake3(data).hexdigest()}"
    assert row.image_digest == f"blake3:{blake3(found.image.tobytes()).hexdigest()}"
    assert row.source_bytes == len(data)
    assert row.flags == ("VIEW_UNKNOWN",)
    assert row.voi == "window"
    assert row.status is None


def test_what_is_known_comes_as_it_becomes_known(tmp_path: Path) -> None:
    data = write(tmp_path / "a.dcm")
    messages = list(READING(Source(str(tmp_path / "a.dcm"), len(data))))
    assert [type(message) for message in messages] == [Outcome, Outcome, Ready]
    header, whole, _ = messages
    assert (header.modality, header.source_digest) == ("CR", None)
    assert whole.source_digest is not None
    assert all(message.status is None for message in (header, whole))


def test_a_rejected_file_keeps_its_header_and_is_read_no_further(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.dcm", BodyPartExamined="HAND")
    found = last(Source(str(tmp_path / "a.dcm")))
    assert isinstance(found, Outcome)
    assert (found.status, found.reason, found.body_part) == (
        "REJECTED",
        "BODY_PART",
        "HAND",
    )
    assert found.source_digest is None


@pytest.mark.parametrize("name", ["gone.dcm", "canary"])
def test_a_file_that_cannot_be_read_is_a_row(tmp_path: Path, name: str) -> None:
    (tmp_path / "canary").mkdir()
    found = last(Source(str(tmp_path / name)))
    assert (found.status, found.reason) == ("ERROR", "READ_FAILED")
    assert name not in found.detail


def test_a_defect_of_ours_costs_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.dcm")

    def broken(*_: object) -> None:
        raise KeyError("Canary^Patient")

    monkeypatch.setattr(read.images, "prepare", broken)
    found = last(Source(str(tmp_path / "a.dcm")))
    assert (found.status, found.reason) == ("ERROR", "INTERNAL_ERROR")
    assert "KeyError in test_read.py" in found.detail
    assert "Canary" not in found.detail


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"BodyPartExamined": "Canary^Patient"},
        {"BodyPartExamined": "CANARY PATIENT"},
        {"Modality": "CANARY-4711"},
        {"ViewPosition": "CANARY"},
        {"PhotometricInterpretation": "CANARY"},
    ],
    ids=str,
)
def test_no_row_holds_a_patients_data(
    tmp_path: Path, attributes: dict[str, str]
) -> None:
    write(tmp_path / "a.dcm", **attributes)
    found = last(Source(str(tmp_path / "a.dcm")))
    assert "canary" not in str(found).lower()


def test_what_a_table_says_of_a_png_meets_the_rules(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "a.png"
    Image.fromarray(radiographs.chest(0.5)).save(path)
    known = Metadata(study_instance_uid="1.2", view_position="LL", patient_age_years=3)
    found = last(Source(str(path), metadata=known))
    assert (found.reason, found.study_instance_uid) == ("LATERAL_VIEW", "1.2")


def test_what_a_table_says_of_a_dicom_file_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm")
    known = Metadata(view_position="LL", modality="CT")
    found = last(Source(str(tmp_path / "a.dcm"), metadata=known))
    assert isinstance(found, Ready)
    assert found.outcome.view_position == "PA"


@pytest.mark.parametrize("part", ["CHEST", "HAND"])
def test_a_file_that_has_grown_since_it_was_listed_waits(
    tmp_path: Path, part: str
) -> None:
    data = write(tmp_path / "a.dcm", BodyPartExamined=part)
    found = last(Source(str(tmp_path / "a.dcm"), len(data) - 10))
    assert (found.status, found.reason) == ("ERROR", "STILL_CHANGING")
    assert found.source_bytes == len(data) - 10


def test_a_file_that_shrinks_while_it_is_read_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "a.dcm")
    check = eligibility.check

    def shrinking(*arguments: object) -> object:
        (tmp_path / "a.dcm").write_bytes(data[:-10])
        return check(*arguments)

    monkeypatch.setattr(eligibility, "check", shrinking)
    found = last(Source(str(tmp_path / "a.dcm"), len(data)))
    assert (found.status, found.reason) == ("ERROR", "STILL_CHANGING")


def test_a_file_that_nobody_listed_gets_its_size(tmp_path: Path) -> None:
    data = write(tmp_path / "a.dcm")
    found = last(Source(str(tmp_path / "a.dcm")))
    assert found.outcome.source_bytes == len(data)
