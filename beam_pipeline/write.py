"""Outcomes → segments: small Parquet files of final rows, in the run's journal.

They are written inside the scoring stage, and only their descriptors travel on.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam

from beam_pipeline import counts, device, runs, tables
from beam_pipeline.records import Outcome
from beam_pipeline.runs import Run, Segment
from beam_pipeline.tables import INSTANCES

_SEGMENT_ROWS = runs.ROW_GROUP_ROWS
# What a run that is killed has to score again.
_SEGMENT_SECONDS = 30.0


class WriteSegments(beam.DoFn):
    """`Outcome`s → `Segment`s in the run's journal, bounded in rows and in time."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def start_bundle(self) -> None:
        self._rows: list[Outcome] = []

    def process(self, outcome: Outcome) -> Iterator[Segment]:
        counts.count(str(outcome.status))
        if not self._rows:
            self._due = time.monotonic() + _SEGMENT_SECONDS
        self._rows.append(outcome)
        if len(self._rows) >= _SEGMENT_ROWS or time.monotonic() >= self._due:
            yield self._write()

    def finish_bundle(self) -> Iterator[Any]:
        if self._rows:
            yield beam.transforms.window.GlobalWindows.windowed_value(self._write())

    def _write(self) -> Segment:
        rows, self._rows = self._rows, []
        gone_by = device.told(self._run.run_id)
        return replace(segment(self._run, rows), device_time=gone_by)


def segment(run: Run, rows: Sequence[Outcome]) -> Segment:
    """Write `rows` as one segment in the journal of `run`."""
    found = Counter((str(row.status), row.reason) for row in rows)
    # A bundle that is tried again writes again: the name must be a new one.
    path = run.journal(f"segment-{uuid.uuid4().hex}.parquet")
    runs.write_bytes(path, runs.to_parquet([tables.table(rows, INSTANCES)], INSTANCES))
    carried = sum(row.carried_from is not None for row in rows)
    return Segment(path, len(rows), tuple(sorted(found.items(), key=str)), carried)
