from __future__ import annotations

import json
from pathlib import Path

import pytest

from beam_pipeline.comparison import finished
from tests import finished_runs
from tests.finished_runs import scored


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output of three finished runs, whose names and dates on disk say nothing."""
    for run_id, day in [("c", 18), ("a", 20), ("b", 19)]:
        finished_runs.write(
            tmp_path / "out",
            run_id,
            [scored("x", 0.1)],
            started=f"2026-11-{day}T01:00:00+00:00",
            finished=f"2026-11-{day}T02:00:00+00:00",
        )
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("name", "run_id"),
    [
        ("", "a"),
        ("/", "a"),
        ("~0", "a"),
        ("~1", "b"),
        ("~2", "c"),
        ("/runs/b", "b"),
        ("/runs/b/", "b"),
    ],
)
def test_a_run_is_named_by_its_folder_or_counted_from_the_newest(
    output: Path, name: str, run_id: str
) -> None:
    run = finished.find(f"{output}{name}")
    assert run.run_id == run_id
    assert run.path == f"{output}/runs/{run_id}"
    assert run.seconds == 3600
    assert run.table("instances", ["source_uri"]).to_pylist() == [
        {"source_uri": "/export/x"}
    ]


def test_a_relative_name_will_do(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(output.parent)
    assert finished.find("out~1").run_id == "b"
    assert finished.find("out/runs/b").table("studies", ["score"]).num_rows == 0
    monkeypatch.chdir(output)
    assert finished.find(".").run_id == "a"
    assert finished.find("runs/c").table("instances", ["score"]).num_rows == 1


def test_a_run_without_success_does_not_count(output: Path) -> None:
    (output / "runs" / "a" / "_SUCCESS").unlink()
    assert finished.find(str(output)).run_id == "b"
    with pytest.raises(ValueError, match="runs/a is no finished run"):
        finished.find(f"{output}/runs/a")


@pytest.mark.parametrize("name", ["/runs/nowhere", "/nowhere", "/instances", "/x~1"])
def test_what_is_no_run_is_refused_and_what_would_be_is_said(
    output: Path, name: str
) -> None:
    with pytest.raises(ValueError, match="Give OUTPUT/runs/ID of a run that has"):
        finished.find(f"{output}{name}")


def test_no_run_is_older_than_the_first(output: Path) -> None:
    with pytest.raises(ValueError, match="has 3 finished runs only"):
        finished.find(f"{output}~3")


@pytest.mark.parametrize("name", ["out~1", "out [1]*", "out?"])
def test_an_output_may_look_like_a_count_or_a_pattern(
    tmp_path: Path, name: str
) -> None:
    for each in (name, "out", "out 1"):
        finished_runs.write(tmp_path / each, f"of {each}")
    assert finished.find(str(tmp_path / name)).run_id == f"of {name}"


@pytest.mark.parametrize(
    "change",
    [
        {"files": []},
        {"finished": "2026-11-20T00:00:00+00:00"},
        {"started": "yesterday"},
    ],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, change: dict) -> None:
    finished_runs.write(tmp_path, "a", **change)
    with pytest.raises(ValueError, match=r"run\.json is not what score writes"):
        finished.find(f"{tmp_path}/runs/a")


def test_a_record_in_the_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    finished_runs.write(tmp_path, "a")
    (tmp_path / "runs" / "a").rename(tmp_path / "runs" / "b")
    with pytest.raises(ValueError, match="it is another run's"):
        finished.find(str(tmp_path))


def test_a_part_that_is_gone_or_another_is_refused(tmp_path: Path) -> None:
    run = finished_runs.write(tmp_path, "a", [scored("x", 0.1)])
    part = tmp_path / "instances" / "run=a" / "part-00000.parquet"
    empty = tmp_path / "studies" / "run=a" / "part-00000.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="cannot be read"):
        run.table("instances", ["score"])
    part.write_bytes(empty.read_bytes())
    with pytest.raises(ValueError, match=r"0 rows and run\.json says 1"):
        run.table("instances", ["score"])
    part.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        run.table("instances", ["score"])


def test_a_file_that_the_record_does_not_name_is_not_read(tmp_path: Path) -> None:
    run = finished_runs.write(tmp_path, "a", [scored("x", 0.1)])
    folder = tmp_path / "instances" / "run=a"
    stale = (folder / "part-00000.parquet").read_bytes()
    (folder / "part-00001.parquet").write_bytes(stale)
    assert run.table("instances", ["score"]).num_rows == 1
    record = json.loads((tmp_path / "runs" / "a" / "run.json").read_text())
    assert len(record["files"]) == 2
