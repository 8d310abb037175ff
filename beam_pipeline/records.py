"""What crosses the stages, and the two tables that come out, with their schemas."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beam_pipeline.errors import Flag, NotScored, Rejected
from beam_pipeline.images.header import Header


class Status(StrEnum):
    """How a file ended."""

    SCORED = "SCORED"
    REJECTED = "REJECTED"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Source:
    """A file to score, as listing found it."""

    uri: str
    size: int | None = None
    modified: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One row of `instances`: all that is known of one file so far.

    Fields are the columns; see `docs/output.md`. What does not exist is None, never 0.
    """

    source_uri: str
    source_bytes: int | None = None
    source_modified: datetime | None = None
    source_digest: str | None = None
    format: str | None = None
    status: Status | None = None
    reason: str | None = None
    detail: str | None = None
    flags: tuple[Flag, ...] = ()
    duplicate_of: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    sop_class_uid: str | None = None
    modality: str | None = None
    body_part: str | None = None
    view_position: str | None = None
    photometric_interpretation: str | None = None
    transfer_syntax_uid: str | None = None
    rows: int | None = None
    columns: int | None = None
    bits_stored: int | None = None
    patient_age_years: float | None = None
    patient_sex: str | None = None
    patient_key: str | None = None
    voi: str | None = None
    score: float | None = None
    probabilities: tuple[float, ...] | None = None
    logits: tuple[float, ...] | None = None
    outlier_score: float | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None
    threshold: float | None = None
    operating_point: str | None = None
    positive: bool | None = None
    model_name: str | None = None
    model_version: str | None = None
    model_digest: str | None = None
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
        )

    def with_header(self, header: Header) -> Outcome:
        """With the facts of the file's header."""
        return replace(self, **{name: getattr(header, name) for name in _FROM_HEADER})

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One row of `studies`: the images of one study, and the one with the top score."""

    study_instance_uid: str
    images: int
    scored: int
    rejected: int
    errors: int
    score: float | None
    positive: bool | None
    driving_sop_instance_uid: str | None
    threshold: float | None
    operating_point: str | None
    model_name: str | None
    model_version: str | None
    model_digest: str | None
    preparation: str | None
    run_id: str | None


_TEXTS = pa.list_(pa.string())
_FLOATS = pa.list_(pa.float32())
_TIME = pa.timestamp("us", tz="UTC")

INSTANCES = pa.schema(
    [
        pa.field("source_uri", pa.string(), nullable=False),
        ("source_bytes", pa.int64()),
        ("source_modified", _TIME),
        ("source_digest", pa.string()),
        ("format", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("flags", _TEXTS),
        ("duplicate_of", pa.string()),
        ("study_instance_uid", pa.string()),
        ("series_instance_uid", pa.string()),
        ("sop_instance_uid", pa.string()),
        ("sop_class_uid", pa.string()),
        ("modality", pa.string()),
        ("body_part", pa.string()),
        ("view_position", pa.string()),
        ("photometric_interpretation", pa.string()),
        ("transfer_syntax_uid", pa.string()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("bits_stored", pa.int32()),
        ("patient_age_years", pa.float32()),
        ("patient_sex", pa.string()),
        ("patient_key", pa.string()),
        ("voi", pa.string()),
        ("score", pa.float64()),
        ("probabilities", _FLOATS),
        ("logits", _FLOATS),
        ("outlier_score", pa.float64()),
        ("label", pa.string()),
        ("labels", _TEXTS),
        ("threshold", pa.float64()),
        ("operating_point", pa.string()),
        ("positive", pa.bool_()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
        ("model_digest", pa.string()),
        ("preparation", pa.string()),
        ("run_id", pa.string()),
        ("carried_from", pa.string()),
        ("scored_at", _TIME),
    ]
)

STUDIES = pa.schema(
    [
        pa.field("study_instance_uid", pa.string(), nullable=False),
        ("images", pa.int64()),
        ("scored", pa.int64()),
        ("rejected", pa.int64()),
        ("errors", pa.int64()),
        ("score", pa.float64()),
        ("positive", pa.bool_()),
        ("driving_sop_instance_uid", pa.string()),
        ("threshold", pa.float64()),
        ("operating_point", pa.string()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
        ("model_digest", pa.string()),
        ("preparation", pa.string()),
        ("run_id", pa.string()),
    ]
)

_FROM_HEADER = sorted(
    {field.name for field in dataclasses.fields(Header)} & set(INSTANCES.names)
)


def table(records: Iterable[Outcome | Study], schema: pa.Schema) -> pa.Table:
    """`records` as a table of `schema`, whose columns are their fields."""
    rows: list[dict[str, Any]] = [
        {name: getattr(record, name) for name in schema.names} for record in records
    ]
    return pa.Table.from_pylist(rows, schema)
