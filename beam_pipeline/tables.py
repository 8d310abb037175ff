"""The two tables that come out: their Arrow schemas, and records as their rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from beam_pipeline.records import Outcome, Study

_TEXTS = pa.list_(pa.string())
_FLOATS = pa.list_(pa.float32())
_TIME = pa.timestamp("us", tz="UTC")

INSTANCES = pa.schema(
    [
        pa.field("source_uri", pa.string(), nullable=False),
        ("source_bytes", pa.int64()),
        ("source_modified", _TIME),
        ("source_etag", pa.string()),
        ("source_digest", pa.string()),
        ("metadata_digest", pa.string()),
        ("format", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("flags", _TEXTS),
        ("duplicate_of", pa.string()),
        ("image_digest", pa.string()),
        ("study_instance_uid", pa.string()),
        ("series_instance_uid", pa.string()),
        ("sop_instance_uid", pa.string()),
        ("sop_class_uid", pa.string()),
        ("modality", pa.string()),
        ("body_part", pa.string()),
        ("view_position", pa.string()),
        ("view_source", pa.string()),
        ("photometric_interpretation", pa.string()),
        ("transfer_syntax_uid", pa.string()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("bits_stored", pa.int32()),
        ("lossy_image_compression_ratio", pa.float32()),
        ("patient_age_years", pa.float32()),
        ("patient_sex", pa.string()),
        ("patient_key", pa.string()),
        ("accession_key", pa.string()),
        ("voi", pa.string()),
        ("score", pa.float64()),
        ("probabilities", _FLOATS),
        ("logits", _FLOATS),
        ("spread", pa.float64()),
        ("outlier_score", pa.float64()),
        ("label", pa.string()),
        ("labels", _TEXTS),
        ("threshold", pa.float64()),
        ("operating_point", pa.string()),
        ("positive", pa.bool_()),
        ("abstained", pa.bool_()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
        ("model_digest", pa.string()),
        ("calibration", pa.string()),
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
        ("reason", pa.string()),
        ("score", pa.float64()),
        ("mean_score", pa.float64()),
        ("spread", pa.float64()),
        ("positive", pa.bool_()),
        ("abstained", pa.bool_()),
        ("driving_sop_instance_uid", pa.string()),
        ("threshold", pa.float64()),
        ("operating_point", pa.string()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
        ("model_digest", pa.string()),
        ("calibration", pa.string()),
        ("preparation", pa.string()),
        ("run_id", pa.string()),
    ]
)


def outcomes(table: pa.Table) -> Iterator[Outcome]:
    """The rows of a table of the schema `INSTANCES`, of any version of it."""
    known = [name for name in table.column_names if name in INSTANCES.names]
    for row in table.select(known).to_pylist():
        lists = {name: tuple(v) for name, v in row.items() if isinstance(v, list)}
        yield Outcome(**{**row, **lists})


def table(records: Iterable[Outcome | Study], schema: pa.Schema) -> pa.Table:
    """`records` as a table of `schema`, whose columns are their fields."""
    rows: list[dict[str, Any]] = [
        {name: getattr(record, name) for name in schema.names} for record in records
    ]
    return pa.Table.from_pylist(rows, schema)
