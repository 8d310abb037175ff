"""Rules 28 and 29: the same image twice, one UID for two, and the score of a study."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import uid

from beam_pipeline import studies
from beam_pipeline.records import Outcome, Ready, Status
from beam_pipeline.studies import COLUMNS, Instance
from tests import radiographs
from tests.radiographs import dicom


def row(uri: str, **changes: object) -> Instance:
    """The row of a scored image of its own."""
    columns: dict[str, object] = dict.fromkeys(COLUMNS)
    columns |= {
        "segment": "s",
        "row": 0,
        "source_uri": uri,
        "source_digest": f"file {uri}",
        "image_digest": f"image {uri}",
        "study_instance_uid": "1.2",
        "sop_instance_uid": f"1.2.{uri}",
        "status": Status.SCORED,
        "score": 0.5,
        "positive": True,
    }
    return Instance(**{**columns, **changes})


def day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


def read(folder: Path, name: str, **attributes: object) -> Outcome:
    film = dicom(radiographs.chest(0.5), **attributes)
    found = radiographs.reading_of(film, folder / name)
    assert isinstance(found, Ready)
    return found.outcome


# Rule 28: duplicates


def test_rule_28_one_image_has_one_content_under_any_uid(tmp_path: Path) -> None:
    """A resend, another UID and another encoding are the same image; another is not."""
    first = read(tmp_path, "a.dcm", SOPInstanceUID="1.2.3")
    again = read(tmp_path, "b.dcm", SOPInstanceUID="1.2.3")
    renamed = read(tmp_path, "c.dcm", SOPInstanceUID="1.2.4")
    packed = read(tmp_path, "d.dcm", transfer_syntax=uid.JPEG2000Lossless)
    other = read(tmp_path, "e.dcm", PhotometricInterpretation="MONOCHROME1")
    digests = [each.image_digest for each in (first, again, renamed, packed)]
    assert len(set(digests)) == 1
    assert other.image_digest not in digests


def test_rule_28_both_rows_stay_and_the_newer_names_the_older() -> None:
    older = row("z", row=1, image_digest="i", source_modified=day(1))
    newer = row("a", row=2, image_digest="i", source_modified=day(2))
    for order in itertools.permutations([older, newer]):
        (mark,) = studies.duplicates(order)
        assert (mark.row, mark.flag, mark.duplicate_of) == (2, "DUPLICATE", "z")


def test_rule_28_a_duplicate_counts_once_in_its_study() -> None:
    copies = [row("a", image_digest="i"), row("b", image_digest="i")]
    found = studies.study(copies)
    assert (found.images, found.scored) == (1, 1)


def test_rule_28_one_uid_for_two_images_is_a_conflict() -> None:
    two = [row("a", row=1, sop_instance_uid="1"), row("b", row=2, sop_instance_uid="1")]
    marks = list(studies.conflicts(two))
    assert [(mark.row, mark.flag) for mark in marks] == [
        (1, "UID_CONFLICT"),
        (2, "UID_CONFLICT"),
    ]
    same = [row("a", image_digest="i"), row("b", image_digest="i")]
    assert not list(studies.conflicts(same))


def test_rule_28_of_two_images_with_one_uid_the_newest_counts() -> None:
    two = [
        row("a", sop_instance_uid="1", score=0.9, source_modified=day(1)),
        row("b", sop_instance_uid="1", score=0.2, source_modified=day(2)),
    ]
    for order in itertools.permutations(two):
        found = studies.study(order)
        assert (found.images, found.score) == (1, 0.2)


# Rule 29: studies

STUDY = [
    row("1", score=0.25, positive=False),
    row("2", score=0.75),
    row("3", score=0.5),
    row("4", status=Status.REJECTED, score=None, positive=None, image_digest=None),
    row("5", status=Status.ERROR, score=None, positive=None, image_digest=None),
]


def test_rule_29_the_largest_score_counts_with_mean_and_number() -> None:
    for order in itertools.permutations(STUDY):
        found = studies.study(order)
        assert (found.study_instance_uid, found.score, found.mean_score) == (
            "1.2",
            0.75,
            0.5,
        )
        assert (found.images, found.scored) == (5, 3)
        assert (found.positive, found.driving_sop_instance_uid) == (True, "1.2.2")


@pytest.mark.parametrize("status", [Status.REJECTED, Status.ERROR])
def test_rule_29_what_has_no_score_is_counted_and_never_mixed_in(status: str) -> None:
    unscored = row("9", status=status, score=None, positive=None)
    with_it, without = studies.study([*STUDY, unscored]), studies.study(STUDY)
    assert (with_it.score, with_it.mean_score) == (without.score, without.mean_score)
    assert with_it.rejected + with_it.errors == without.rejected + without.errors + 1


def test_rule_29_a_study_without_an_eligible_image_has_a_row() -> None:
    found = studies.study(STUDY[3:])
    assert found.reason == "NO_ELIGIBLE_IMAGE"
    assert (found.score, found.mean_score, found.positive) == (None, None, None)
    assert (found.images, found.rejected, found.errors) == (2, 1, 1)


def test_rule_29_the_study_is_the_key_and_not_the_accession(tmp_path: Path) -> None:
    said = {"StudyInstanceUID": "1.2.3", "AccessionNumber": "A1"}
    assert read(tmp_path, "a.dcm", **said).study_instance_uid == "1.2.3"
    said = {"StudyInstanceUID": "1.2.4", "AccessionNumber": "A1"}
    assert read(tmp_path, "b.dcm", **said).study_instance_uid == "1.2.4"
