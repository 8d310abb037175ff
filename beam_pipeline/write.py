"""Outcomes → segments: small Parquet files of final rows, in the run's journal.

They are written inside the scoring stage, and only their descriptors travel on.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from beam_pipeline import counts, runs, tables
from beam_pipeline.records import Outcome
from beam_pipeline.runs import Run, Segment
from beam_pipeline.tables import INSTANCES

_SEGMENT_ROWS = 10_000


class WriteSegments(beam.DoFn):
    """`Outcome`s → `Segment`s of at most some 10,000 rows, in the run's journal."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def start_bundle(self) -> None:
        self._rows: list[Outcome] = []

    def process(self, outcome: Outcome) -> Iterator[Segment]:
        counts.count(str(outcome.status))
        self._rows.append(outcome)
        if len(self._rows) >= _SEGMENT_ROWS:
            yield self._write()

    def finish_bundle(self) -> Iterator[Any]:
        if self._rows:
            yield beam.transforms.window.GlobalWindows.windowed_value(self._write())

    def _write(self) -> Segment:
        found = Counter((str(row.status), row.reason) for row in self._rows)
        # A bundle that is tried again writes again: the name must be a new one.
        path = self._run.journal(f"segment-{uuid.uuid4().hex}.parquet")
        runs.write_bytes(path, runs.to_parquet(tables.table(self._rows, INSTANCES)))
        segment = Segment(path, len(self._rows), tuple(sorted(found.items(), key=str)))
        self._rows = []
        return segment
