from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
import pytest

from beam_pipeline import write
from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.records import Outcome, Source
from beam_pipeline.write import WriteSegments
from tests import radiographs


def test_segments_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = radiographs.run(tmp_path / "out")
    empty = Unreadable(Failure.EMPTY_FILE, "0 bytes")
    outcomes = [Outcome.of(Source(f"{i}")).ended(empty) for i in range(8)]
    monkeypatch.setattr(write, "_SEGMENT_ROWS", 3)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create(outcomes, reshuffle=False)
            | beam.ParDo(WriteSegments(run))
        )
    found = Path(run.journal()).glob("*")
    assert sorted(pq.read_metadata(path).num_rows for path in found) == [2, 3, 3]


def test_segments_are_bounded_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = radiographs.run(tmp_path / "out")
    monkeypatch.setattr(write, "_SEGMENT_SECONDS", 0.0)
    empty = Unreadable(Failure.EMPTY_FILE, "0 bytes")
    outcomes = [Outcome.of(Source(f"{i}")).ended(empty) for i in range(3)]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        made = pipeline | beam.Create(outcomes, reshuffle=False)
        _ = made | beam.ParDo(WriteSegments(run))
    found = Path(run.journal()).glob("*")
    assert [pq.read_metadata(path).num_rows for path in found] == [1, 1, 1]
