"""Rows that belong together: the same image twice, one UID for two, a study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from pydicom import uid

from beam_pipeline.errors import Flag, StudyReason
from beam_pipeline.records import Outcome, Status, Study

_FIRST = datetime.min.replace(tzinfo=UTC)
# Encodings that may be decoded at a fraction of their size: `images.reduced.DECODERS`.
REDUCIBLE: frozenset[str | None] = frozenset(
    {
        uid.JPEGBaseline8Bit,
        uid.JPEG2000Lossless,
        uid.JPEG2000,
        uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL,
        uid.HTJ2K,
    }
)
# What decoding at a fraction of the size may change in a logit: docs/performance.md.
_REDUCED_LOGITS = 0.15


class Instance(NamedTuple):
    """What other rows need to know of a row.

    Attributes:
        segment: the file of the journal that holds the row.
        row: its place there.
    """

    segment: str
    row: int
    source_uri: str
    source_modified: datetime | None
    source_digest: str | None
    image_digest: str | None
    study_instance_uid: str | None
    sop_instance_uid: str | None
    transfer_syntax_uid: str | None
    logits: list[float] | None
    status: str
    score: float | None
    positive: bool | None
    spread: float | None
    abstained: bool | None
    threshold: float | None
    operating_point: str | None
    model_name: str | None
    model_version: str | None
    model_digest: str | None
    calibration: str | None
    preparation: str | None
    run_id: str | None

    @classmethod
    def of(cls, outcome: Outcome, segment: str, row: int) -> Instance:
        """That of a row of `segment`."""
        known = {name: getattr(outcome, name) for name in COLUMNS}
        return cls(segment=segment, row=row, **known)

    @property
    def content(self) -> str | None:
        """What is the same for the same image; None where no pixels were read."""
        return self.image_digest or self.source_digest

    @property
    def age(self) -> tuple[datetime, str]:
        """Oldest first, in an order that does not depend on the runner."""
        return (self.source_modified or _FIRST, self.source_uri)


COLUMNS = [name for name in Instance._fields if name not in ("segment", "row")]
_OF_THE_TOP_IMAGE = COLUMNS[COLUMNS.index("spread") :]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a row learns from others: a flag, and the file that it repeats."""

    segment: str
    row: int
    flag: str
    duplicate_of: str | None = None


def duplicates(instances: Iterable[Instance]) -> Iterator[Mark]:
    """A mark for each of `instances`, all of one content, but the oldest."""
    first, *others = sorted(instances, key=lambda each: each.age)
    for each in others:
        yield Mark(each.segment, each.row, Flag.DUPLICATE, first.source_uri)


def conflicts(instances: Iterable[Instance]) -> Iterator[Mark]:
    """A mark for those of `instances`, all of one SOP Instance UID, that differ.

    One image in two encodings is none: what one of them was decoded to at a fraction of
    its size has another digest, and the model says the same of both.
    """
    images: dict[str, Instance] = {}
    several = sorted(instances, key=lambda each: each.age)
    for each in several:
        if each.image_digest is not None:
            images.setdefault(each.image_digest, each)
    distinct = list(images.values())
    if len(distinct) > 1 and _is_one_image(distinct):
        first, *others = distinct
        for each in others:
            yield Mark(each.segment, each.row, Flag.DUPLICATE, first.source_uri)
    elif len(distinct) > 1:
        for each in several:
            if each.image_digest is not None:
                yield Mark(each.segment, each.row, Flag.UID_CONFLICT)


def _is_one_image(images: Sequence[Instance]) -> bool:
    if len({each.study_instance_uid for each in images}) > 1:
        return False
    if not all((each.preparation or "").endswith(":reduced") for each in images):
        return False
    # Two that were decoded whole and differ are two.
    encodings = {each.transfer_syntax_uid for each in images}
    logits = [each.logits for each in images if each.logits is not None]
    if len(encodings - REDUCIBLE) > 1 or len(encodings) < len(images):
        return False
    if len(logits) < len(images):
        return False
    classes = zip(*logits, strict=True)
    return all(max(each) - min(each) <= _REDUCED_LOGITS for each in classes)


def study(instances: Iterable[Instance]) -> Study:
    """The study of `instances`, all of one Study Instance UID.

    Each image counts once, and of several with one SOP Instance UID the newest. The
    score is the largest; the image that has it drives the study. The mean shows
    where its images disagree.
    """
    images = _each_once(sorted(instances, key=lambda each: each.age))
    scored = [each for each in images if each.score is not None]
    top = min(scored, key=_rank) if scored else images[0]
    statuses = [each.status for each in images]
    return Study(
        study_instance_uid=top.study_instance_uid or "",
        images=len(images),
        scored=statuses.count(Status.SCORED),
        rejected=statuses.count(Status.REJECTED),
        errors=statuses.count(Status.ERROR),
        reason=None if scored else StudyReason.NO_ELIGIBLE_IMAGE,
        score=top.score,
        mean_score=_mean(each.score for each in scored),
        # A multi-label image can be positive with a lower score than another's.
        positive=any(each.positive for each in scored) if scored else None,
        driving_sop_instance_uid=top.sop_instance_uid if scored else None,
        **{name: getattr(top, name) for name in _OF_THE_TOP_IMAGE},
    )


def _each_once(oldest_first: Sequence[Instance]) -> list[Instance]:
    newest: dict[str, Instance] = {}
    for each in oldest_first:
        same = each.sop_instance_uid if each.image_digest else None
        newest[same or each.source_uri] = each
    once: dict[str, Instance] = {}
    for each in newest.values():
        once.setdefault(each.content or each.source_uri, each)
    return list(once.values())


def _mean(scores: Iterable[float | None]) -> float | None:
    found = [score for score in scores if score is not None]
    return math.fsum(found) / len(found) if found else None


def _rank(each: Instance) -> tuple[float, str]:
    return (-(each.score or 0.0), each.sop_instance_uid or each.source_uri)
