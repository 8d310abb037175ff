from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
import pytest

from beam_pipeline import decide, lease, publish, records, retention
from beam_pipeline.errors import Failure, Rejected, Rejection, Unreadable
from beam_pipeline.publish import Publish, Unbalanced
from beam_pipeline.records import Outcome, Source, Status
from beam_pipeline.runs import Run, Segment
from beam_pipeline.tables import INSTANCES
from beam_pipeline.write import WriteSegments
from tests import radiographs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return radiographs.run(tmp_path / "out", a=1)


def outcomes(count: int) -> list[Outcome]:
    kinds = [
        Rejected(Rejection.BODY_PART, "HAND"),
        Rejected(Rejection.NON_IMAGE, "SR"),
        Unreadable(Failure.EMPTY_FILE, "0 bytes"),
    ]
    return [Outcome.of(Source(f"{i:03}")).ended(kinds[i % 3]) for i in range(count)]


def published(rows: list[Outcome], run: Run, listed: int | None = None) -> None:
    with lease.held(run), beam.Pipeline(runner="FnApiRunner") as pipeline:
        made = pipeline | beam.Create(rows)
        segments = made | beam.ParDo(WriteSegments(run))
        count = pipeline | "n" >> beam.Create([len(rows) if listed is None else listed])
        known = pipeline | "Known" >> beam.Create([])
        policy = decide.policy(radiographs.manifest(), "sha256:0", run.run_id)
        (segments, count, known) | Publish(run, policy)
    retention.close(run)


def files(run: Run) -> list[str]:
    root = Path(run.output)
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_a_run_leaves_two_tables_a_record_and_nothing_else(run: Run) -> None:
    published(outcomes(7), run)
    assert files(run) == [
        "instances/run=night/part-00000.parquet",
        "runs/night/_SUCCESS",
        "runs/night/run.json",
        "studies/run=night/part-00000.parquet",
    ]
    table = pq.read_table(Path(run.output) / "instances")
    assert sorted(table["source_uri"].to_pylist()) == [f"{i:03}" for i in range(7)]
    assert pq.read_schema(run.instances("part-00000.parquet")).equals(INSTANCES)


def test_the_record_counts_and_names_its_files(run: Run) -> None:
    published(outcomes(7), run)
    document = json.loads(Path(run.record("run.json")).read_text())
    assert document["listed"] == document["rows"] == 7
    assert document["statuses"] == {"SCORED": 0, "REJECTED": 5, "ERROR": 2}
    assert document["reasons"] == {
        "REJECTED": {"BODY_PART": 3, "NON_IMAGE": 2},
        "ERROR": {"EMPTY_FILE": 2},
    }
    assert document["a"] == 1
    # No image came to the model.
    assert document["inference"] is None
    for file in document["files"]:
        data = (Path(run.output) / file["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]


def test_a_lost_row_is_never_a_success(run: Run) -> None:
    with pytest.raises(Exception, match="8 files were listed and 7 rows"):
        published(outcomes(7), run, listed=8)
    assert not Path(run.record("_SUCCESS")).exists()
    assert not Path(run.record("run.json")).exists()


def test_rows_learn_what_they_repeat_and_contradict(run: Run) -> None:
    def row(name: str, image: str, sop: str, day: int, score: float) -> Outcome:
        return Outcome(
            source_uri=name,
            source_modified=datetime(2026, 1, day, tzinfo=UTC),
            image_digest=image,
            study_instance_uid="1.2",
            sop_instance_uid=sop,
            status=Status.SCORED,
            flags=("VIEW_UNKNOWN",),
            score=score,
            positive=score > 0.5,
        )

    published(
        [
            row("copy", "A", "1", 2, 0.4),
            row("first", "A", "1", 1, 0.4),
            row("old", "B", "2", 1, 0.9),
            row("new", "C", "2", 2, 0.3),
            row("alone", "D", "3", 1, 0.1),
        ],
        run,
    )
    rows = {
        row["source_uri"]: (row["flags"][1:], row["duplicate_of"])
        for row in pq.read_table(Path(run.output) / "instances").to_pylist()
    }
    assert rows == {
        "copy": (["DUPLICATE"], "first"),
        "first": ([], None),
        "old": (["UID_CONFLICT"], None),
        "new": (["UID_CONFLICT"], None),
        "alone": ([], None),
    }
    [study] = pq.read_table(Path(run.output) / "studies").to_pylist()
    assert (study["images"], study["scored"], study["score"]) == (3, 3, 0.4)
    assert (study["positive"], study["reason"]) == (False, None)


def test_parts_hold_whole_segments_up_to_their_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publish, "_PART_ROWS", 10)
    segments = [Segment(f"{i}", rows, ()) for i, rows in enumerate([4, 6, 1, 12, 9])]
    plan = publish.plan_parts(segments[::-1])
    assert plan == {
        "0": "part-00000.parquet",
        "1": "part-00000.parquet",
        "2": "part-00001.parquet",
        "3": "part-00002.parquet",
        "4": "part-00003.parquet",
    }


def test_studies_are_spread_over_parts_by_their_uid(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_PART_ROWS", 4)
    rows = [
        Outcome(
            source_uri=str(i),
            status=records.Status.ERROR,
            reason="x",
            study_instance_uid=f"1.{i % 6}",
        )
        for i in range(12)
    ]
    published(rows, run)
    parts = Path(run.output, "studies").rglob("*.parquet")
    tables = [pq.ParquetFile(part).read() for part in parts]
    assert len(tables) > 1
    uids = [uid for table in tables for uid in table["study_instance_uid"].to_pylist()]
    assert sorted(uids) == [f"1.{i}" for i in range(6)]
    assert sum(sum(t["images"].to_pylist()) for t in tables) == 12


def test_unbalanced_is_a_failure_of_the_run_and_no_refusal() -> None:
    assert not issubclass(Unbalanced, ValueError)
