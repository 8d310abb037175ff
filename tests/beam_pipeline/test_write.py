from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
import pytest

from beam_pipeline import decide, records, write
from beam_pipeline.errors import Failure, Rejected, Rejection, Unreadable
from beam_pipeline.records import Outcome, Source
from beam_pipeline.write import Publish, Run, Segment, Unbalanced, WriteSegments


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path / "out"), "night", "2026-01-01T00:00:00+00:00", {"a": 1})


def outcomes(count: int) -> list[Outcome]:
    kinds = [
        Rejected(Rejection.BODY_PART, "HAND"),
        Rejected(Rejection.NON_IMAGE, "SR"),
        Unreadable(Failure.EMPTY_FILE, "0 bytes"),
    ]
    return [Outcome.of(Source(f"{i:03}")).ended(kinds[i % 3]) for i in range(count)]


def publish(rows: list[Outcome], run: Run, listed: int | None = None) -> None:
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        made = pipeline | beam.Create(rows)
        segments = made | beam.ParDo(WriteSegments(run))
        studies = (
            made
            | beam.FlatMap(decide.study_of)
            | beam.CombinePerKey(decide.merge)
            | beam.Values()
        )
        count = pipeline | "n" >> beam.Create([len(rows) if listed is None else listed])
        (segments, studies, count) | Publish(run)


def files(run: Run) -> list[str]:
    root = Path(run.output)
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_a_run_leaves_two_tables_a_record_and_nothing_else(run: Run) -> None:
    publish(outcomes(7), run)
    assert files(run) == [
        "instances/run=night/part-00000.parquet",
        "runs/night/_SUCCESS",
        "runs/night/run.json",
        "studies/run=night/part-00000.parquet",
    ]
    table = pq.read_table(Path(run.output) / "instances")
    assert sorted(table["source_uri"].to_pylist()) == [f"{i:03}" for i in range(7)]
    assert pq.read_schema(run.instances("part-00000.parquet")).equals(records.INSTANCES)


def test_the_record_counts_and_names_its_files(run: Run) -> None:
    publish(outcomes(7), run)
    document = json.loads(Path(run.record("run.json")).read_text())
    assert document["listed"] == document["rows"] == 7
    assert document["statuses"] == {"SCORED": 0, "REJECTED": 5, "ERROR": 2}
    assert document["reasons"] == {
        "REJECTED": {"BODY_PART": 3, "NON_IMAGE": 2},
        "ERROR": {"EMPTY_FILE": 2},
    }
    assert document["a"] == 1
    for file in document["files"]:
        data = (Path(run.output) / file["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]


def test_a_lost_row_is_never_a_success(run: Run) -> None:
    with pytest.raises(Exception, match="8 files were listed and 7 rows"):
        publish(outcomes(7), run, listed=8)
    assert not Path(run.record("_SUCCESS")).exists()
    assert not Path(run.record("run.json")).exists()


def test_segments_are_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_SEGMENT_ROWS", 3)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create(outcomes(8), reshuffle=False)
            | beam.ParDo(WriteSegments(run))
        )
    found = Path(run.journal()).glob("*")
    assert sorted(pq.read_metadata(path).num_rows for path in found) == [2, 3, 3]


def test_parts_hold_whole_segments_up_to_their_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write, "_PART_ROWS", 10)
    segments = [Segment(f"{i}", rows, ()) for i, rows in enumerate([4, 6, 1, 12, 9])]
    parts = list(write.plan_parts(segments[::-1]))
    assert [name for name, _ in parts] == [f"part-{i:05d}.parquet" for i in range(4)]
    assert [[s.rows for s in part] for _, part in parts] == [[4, 6], [1], [12], [9]]


def test_a_local_file_gets_its_name_when_it_is_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(run.record("run.json"))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write.FileSystems, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        write.write_bytes(str(path), b"half")
    assert not path.exists()


def test_studies_are_spread_over_parts_by_their_uid(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_PART_ROWS", 4)
    rows = [
        Outcome(
            source_uri=str(i),
            status=records.Status.ERROR,
            reason="x",
            study_instance_uid=f"1.{i % 6}",
        )
        for i in range(12)
    ]
    publish(rows, run)
    parts = Path(run.output, "studies").rglob("*.parquet")
    tables = [pq.ParquetFile(part).read() for part in parts]
    assert len(tables) > 1
    uids = [uid for table in tables for uid in table["study_instance_uid"].to_pylist()]
    assert sorted(uids) == [f"1.{i}" for i in range(6)]
    assert sum(sum(t["images"].to_pylist()) for t in tables) == 12


@pytest.mark.skipif(os.geteuid() != 0, reason="relies on /proc refusing even root")
def test_an_output_that_cannot_be_written_says_why() -> None:
    with pytest.raises(ValueError, match="--output /proc/out cannot be written"):
        write.probe("/proc/out")


def test_an_output_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        write.probe(str(tmp_path / "file" / "out"))


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    write.probe(str(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_unbalanced_is_a_failure_of_the_run_and_no_refusal() -> None:
    assert not issubclass(Unbalanced, ValueError)
