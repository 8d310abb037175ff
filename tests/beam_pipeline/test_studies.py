from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from pydicom import uid

from beam_pipeline import studies
from beam_pipeline.images import reduced
from beam_pipeline.records import Status
from beam_pipeline.studies import COLUMNS, Instance


def instance(uri: str, **changes: object) -> Instance:
    columns: dict[str, object] = dict.fromkeys(COLUMNS)
    columns |= {
        "segment": "s",
        "row": 0,
        "source_uri": uri,
        "image_digest": uri,
        "study_instance_uid": "1.2",
        "sop_instance_uid": f"1.{uri}",
        "status": Status.SCORED,
        "model_name": "m",
    }
    return Instance(**{**columns, **changes})


def day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


def test_the_oldest_is_the_original_of_its_copies() -> None:
    copies = [
        instance("b", source_modified=day(2), row=1),
        instance("a", source_modified=day(3), row=2),
        instance("c", source_modified=day(1), row=3),
    ]
    for order in itertools.permutations(copies):
        marks = sorted(studies.duplicates(order), key=lambda mark: mark.row)
        assert [(m.row, m.flag, m.duplicate_of) for m in marks] == [
            (1, "DUPLICATE", "c"),
            (2, "DUPLICATE", "c"),
        ]


def test_content_is_the_image_or_else_the_file() -> None:
    assert instance("a", image_digest="i", source_digest="f").content == "i"
    assert instance("a", image_digest=None, source_digest="f").content == "f"
    assert instance("a", image_digest=None).content is None


def test_one_uid_for_two_images_is_a_conflict_of_both() -> None:
    same = [instance("a", row=1), instance("b", row=2), instance("c", row=3)]
    assert [m.row for m in studies.conflicts(same)] == [1, 2, 3]


WHOLE, JPEG_2000 = uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless


def encoded(uri: str, syntax: str, *logits: float, **changes: object) -> Instance:
    columns = {
        "transfer_syntax_uid": syntax,
        "logits": list(logits) or None,
        "preparation": "v1:224x224:stretch:auto:reduced",
    }
    return instance(uri, **{**columns, **changes})


def test_what_may_be_reduced_is_what_can_be() -> None:
    assert frozenset(reduced.DECODERS) == studies.REDUCIBLE


def test_an_encoding_that_was_decoded_at_another_size_is_no_conflict() -> None:
    older = encoded("b", WHOLE, -1.0, 1.0, row=1, source_modified=day(1))
    newer = encoded("a", JPEG_2000, -1.1, 1.1, row=2, source_modified=day(2))
    again = encoded("c", JPEG_2000, -1.1, 1.1, row=3, source_modified=day(3))
    again = again._replace(image_digest=newer.image_digest)
    for order in itertools.permutations([older, newer, again]):
        # The third is found by its content, and marked once.
        (mark,) = studies.conflicts(order)
        assert (mark.row, mark.flag, mark.duplicate_of) == (2, "DUPLICATE", "b")


@pytest.mark.parametrize(
    "other",
    [
        encoded("b", JPEG_2000, -1.0, 1.2),
        encoded("b", WHOLE, -1.0, 1.0),
        encoded("b", uid.ImplicitVRLittleEndian, -1.0, 1.0),
        encoded("b", JPEG_2000),
        encoded("b", JPEG_2000, -1.0, 1.0, study_instance_uid="1.3"),
        encoded("b", JPEG_2000, -1.0, 1.0, preparation="v1:224x224:stretch:auto"),
    ],
    ids=[
        "another score",
        "the same encoding",
        "both whole",
        "no score",
        "another study",
        "decoded whole",
    ],
)
def test_what_encodings_do_not_explain_is_a_conflict(other: Instance) -> None:
    marks = list(studies.conflicts([encoded("a", WHOLE, -1.0, 1.0), other]))
    assert [mark.flag for mark in marks] == ["UID_CONFLICT"] * 2


def test_one_uid_for_one_image_in_two_encodings_is_no_conflict() -> None:
    same = [
        instance("a", image_digest="i", source_digest="f"),
        instance("b", image_digest="i", source_digest="g"),
        instance("c", image_digest=None, source_digest="h"),
    ]
    assert not list(studies.conflicts(same))


def test_a_study_takes_the_top_score_in_any_order() -> None:
    images = [
        instance("1", score=0.2, positive=False, threshold=0.5, spread=0.3),
        instance("2", score=0.8, positive=True, threshold=0.5, spread=0.1),
        instance("3", score=0.8, positive=True, threshold=0.5, spread=0.2),
        instance("4", status=Status.REJECTED, image_digest=None),
        instance("5", status=Status.ERROR, image_digest=None),
    ]
    found = {studies.study(order) for order in itertools.permutations(images)}
    assert len(found) == 1
    study = found.pop()
    assert (study.images, study.scored, study.rejected, study.errors) == (5, 3, 1, 1)
    assert (study.score, study.positive, study.threshold) == (0.8, True, 0.5)
    assert (study.driving_sop_instance_uid, study.reason) == ("1.2", None)
    assert study.spread == 0.1


def test_a_copy_counts_once_in_its_study() -> None:
    images = [
        instance("a", image_digest="i", score=0.1),
        instance("b", image_digest="i", score=0.1),
        instance("c", image_digest=None, source_digest="f", status=Status.ERROR),
        instance("d", image_digest=None, source_digest="f", status=Status.ERROR),
    ]
    study = studies.study(images)
    assert (study.images, study.scored, study.errors) == (2, 1, 1)


def test_files_that_were_not_read_count_each() -> None:
    images = [instance(uri, image_digest=None, status=Status.REJECTED) for uri in "abc"]
    assert studies.study(images).rejected == 3


def test_of_one_uid_the_newest_image_counts() -> None:
    images = [
        instance("old", sop_instance_uid="1", score=0.9, source_modified=day(1)),
        instance("new", sop_instance_uid="1", score=0.2, source_modified=day(2)),
    ]
    for order in (images, images[::-1]):
        study = studies.study(order)
        assert (study.images, study.score) == (1, 0.2)


def test_a_multilabel_image_can_be_positive_below_another() -> None:
    images = [
        instance("a", score=0.6, positive=False),
        instance("b", score=0.4, positive=True),
    ]
    study = studies.study(images)
    assert (study.score, study.positive) == (0.6, True)


def test_a_study_is_not_called_where_its_driving_image_is_not() -> None:
    images = [
        instance("a", score=0.5, positive=True, abstained=True),
        instance("b", score=0.9, positive=True, abstained=False),
    ]
    assert studies.study(images).abstained is False
    assert studies.study(images[:1]).abstained is True


def test_a_study_without_a_scored_image_says_so() -> None:
    study = studies.study([instance("a", status=Status.REJECTED)])
    assert study.reason == "NO_ELIGIBLE_IMAGE"
    assert (study.score, study.positive, study.driving_sop_instance_uid) == (None,) * 3
    assert study.model_name == "m"
