"""Known rows → `Contents`: what earlier runs scored, by its digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipeline import contents, runs
from beam_pipeline.contents import Contents
from beam_pipeline.known import KnownFile
from beam_pipeline.tables import INSTANCES

_ROWS_A_FILE = 4096
_SCHEMA = pa.schema([INSTANCES.field(name) for name in contents.COLUMNS])


@dataclass
class IndexContents(beam.PTransform):
    """`KnownFile`s → the files of `contents`, each with its number when it is there."""

    contents: Contents

    def expand(self, known: beam.PCollection[KnownFile]) -> beam.PCollection[int]:
        found = known | "Contents" >> beam.FlatMap(scored_contents, self.contents)
        numbers = (
            known.pipeline
            | "Numbers" >> beam.Create(range(self.contents.files))
            | "Number" >> beam.Map(_itself)
        )
        return (
            {"found": found, "numbers": numbers}
            | "ByNumber" >> beam.CoGroupByKey()
            | "WriteContents" >> beam.Map(_write, self.contents)
        )


def _itself(number: int) -> tuple[int, None]:
    return number, None


def contents_of(known: Iterable[KnownFile], folder: str) -> Contents | None:
    """Where the contents of `known` belong; None where nothing is known."""
    rows = sum(file.rows for file in known if file.is_current)
    return Contents(folder, 1 + rows // _ROWS_A_FILE) if rows else None


def scored_contents(file: KnownFile, into: Contents) -> Iterator[tuple[int, pa.Table]]:
    """The scored contents in `file`, by the number of the file they belong in."""
    groups = runs.row_groups(file.path, contents.COLUMNS) if file.is_current else ()
    for group in groups:
        is_scored = pc.greater(
            pc.fill_null(pc.list_value_length(group["logits"]), 0), 0
        )
        scored = group.filter(pc.and_(is_scored, pc.is_valid(group["source_digest"])))
        digests = scored["source_digest"].to_pylist()
        numbers = np.array([into.number(digest) for digest in digests], np.int64)
        for number in np.unique(numbers):
            yield int(number), scored.take(np.flatnonzero(numbers == number))


def _write(entry: tuple[int, Mapping[str, Iterable[Any]]], into: Contents) -> int:
    number, grouped = entry
    runs.write_bytes(into.path(number), runs.to_parquet(grouped["found"], _SCHEMA))
    return number
