"""What crosses the stages: a file to score, its model input, its row, its study."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.errors import NotScored, Rejected
from beam_pipeline.images.header import Header


class Status(StrEnum):
    """How a file ended."""

    SCORED = "SCORED"
    REJECTED = "REJECTED"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What somebody else knows of a file that has no header."""

    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    modality: str | None = None
    body_part: str | None = None
    view_position: str | None = None
    patient_age_years: float | None = None
    patient_sex: str | None = None
    patient_id: str | None = None
    accession_number: str | None = None


@dataclass(frozen=True)
class Source:
    """A file to score, as listing found it.

    Attributes:
        uri: where it is.
        size: in bytes.
        modified: when it last was.
        etag: what a bucket calls its content; None on a disk.
        metadata: what somebody else knows of it.
        metadata_digest: of the same.
        digest: of its content, where an earlier run read it and it is unchanged since.
    """

    uri: str
    size: int | None = None
    modified: datetime | None = None
    etag: str | None = None
    metadata: Metadata | None = None
    metadata_digest: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One row of `instances`: all that is known of one file so far.

    Fields are the columns; see `docs/output.md`. What does not exist is None, never 0.
    """

    source_uri: str
    source_bytes: int | None = None
    source_modified: datetime | None = None
    source_etag: str | None = None
    source_digest: str | None = None
    metadata_digest: str | None = None
    format: str | None = None
    status: Status | None = None
    reason: str | None = None
    detail: str | None = None
    flags: tuple[str, ...] = ()
    duplicate_of: str | None = None
    image_digest: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    sop_class_uid: str | None = None
    modality: str | None = None
    body_part: str | None = None
    view_position: str | None = None
    view_source: str | None = None
    photometric_interpretation: str | None = None
    transfer_syntax_uid: str | None = None
    rows: int | None = None
    columns: int | None = None
    bits_stored: int | None = None
    lossy_image_compression_ratio: float | None = None
    patient_age_years: float | None = None
    patient_sex: str | None = None
    patient_key: str | None = None
    accession_key: str | None = None
    voi: str | None = None
    score: float | None = None
    probabilities: tuple[float, ...] | None = None
    logits: tuple[float, ...] | None = None
    spread: float | None = None
    outlier_score: float | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None
    threshold: float | None = None
    operating_point: str | None = None
    positive: bool | None = None
    abstained: bool | None = None
    model_name: str | None = None
    model_version: str | None = None
    model_digest: str | None = None
    calibration: str | None = None
    preparation: str | None = None
    run_id: str | None = None
    carried_from: str | None = None
    scored_at: datetime | None = None

    @classmethod
    def of(cls, source: Source) -> Outcome:
        """What listing alone tells."""
        return cls(
            source_uri=source.uri,
            source_bytes=source.size,
            source_modified=source.modified,
            source_etag=source.etag,
            metadata_digest=source.metadata_digest,
        )

    def with_header(self, header: Header) -> Outcome:
        """With the facts of the file's header."""
        facts = {name: getattr(header, name) for name in _FROM_HEADER}
        return replace(self, **facts, flags=self.flags + header.flags)

    def ended(self, error: NotScored) -> Outcome:
        """Final, without a score, for the reason that `error` gives."""
        status = Status.REJECTED if isinstance(error, Rejected) else Status.ERROR
        return replace(
            self, status=status, reason=str(error.reason), detail=error.detail
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """A file that is ready for the model.

    Attributes:
        outcome: its row so far.
        image: the model input, uint8, (height, width, 1).
    """

    outcome: Outcome
    image: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What the rows of a run rest on; where it is another, they do not stand.

    Attributes:
        model: the model's digest.
        rules: digest of the rules that were asked.
        pseudonyms: which key replaced what; empty where none did.
    """

    model: str
    rules: str
    pseudonyms: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One row of `studies`: the images of one study, and the one with the top score.

    `reason` says why there is no score, where there is none.
    """

    study_instance_uid: str
    images: int
    scored: int
    rejected: int
    errors: int
    reason: str | None
    score: float | None
    mean_score: float | None
    spread: float | None
    positive: bool | None
    abstained: bool | None
    driving_sop_instance_uid: str | None
    threshold: float | None
    operating_point: str | None
    model_name: str | None
    model_version: str | None
    model_digest: str | None
    calibration: str | None
    preparation: str | None
    run_id: str | None


_FROM_HEADER = sorted(
    {field.name for field in dataclasses.fields(Header)}
    & {field.name for field in dataclasses.fields(Outcome)} - {"flags"}
)
