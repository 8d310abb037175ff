from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline import retention, runs, write
from beam_pipeline.known import Carried, Known, Place, files_of, looked_up
from beam_pipeline.records import Outcome, Source, Status
from beam_pipeline.runs import Run
from tests import radiographs

THEN = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = Source("a.dcm", 10, THEN, etag="e", metadata_digest="m")
KNOWN = Known(
    place=Place("old.parquet", 0, 1),
    started="2026",
    size=10,
    modified=THEN,
    etag="e",
    metadata_digest="m",
    digest="blake3:00",
    is_final=True,
)


def test_what_is_unchanged_is_carried() -> None:
    carried = Carried(KNOWN.place, THEN, "e")
    assert looked_up(SOURCE, [KNOWN], "e") == carried
    newer = KNOWN._replace(started="2027", place=Place("new.parquet", 0, 0))
    found = looked_up(SOURCE, [KNOWN, newer, KNOWN], "e")
    assert found == carried._replace(place=newer.place)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 11},
        {"metadata_digest": None},
        {"etag": "f"},
        {"etag": None, "modified": None},
        {"etag": None, "modified": datetime(2026, 1, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
def test_what_changed_is_read(changes: dict[str, Any]) -> None:
    source = replace(SOURCE, **changes)
    assert looked_up(source, [KNOWN], source.etag) is source


def test_an_etag_counts_for_more_than_a_time() -> None:
    later = datetime(2026, 5, 1, tzinfo=UTC)
    found = looked_up(replace(SOURCE, modified=later), [KNOWN], "e")
    assert found == Carried(KNOWN.place, later, "e")


def test_a_row_that_does_not_stand_tells_the_digest() -> None:
    found = looked_up(SOURCE, [KNOWN._replace(is_final=False)], "e")
    assert found == replace(SOURCE, digest="blake3:00")


def finish(run: Run) -> None:
    """Leave what a finished run does, as far as others look at it."""
    file = {"path": f"instances/run={run.run_id}/part-00000.parquet", "rows": 7}
    document = {**run.document, "finished": run.started, "files": [file]}
    runs.write_json(run.record("run.json"), document)
    runs.write_bytes(run.record("_SUCCESS"), b"")


def begin(run: Run) -> None:
    """Leave what a run does that was killed."""
    runs.begin(run)
    write.segment(run, [Outcome(source_uri="a", status=Status.ERROR)])


def known(run: Run, **options: Any) -> list[tuple[str, bool, bool]]:
    files = [file for file in files_of(run, **options) if file.is_current]
    return sorted((file.run_id, file.finished, file.same_rules) for file in files)


def test_which_runs_count(tmp_path: Path) -> None:
    def run(run_id: str, started: str = "2026", **changes: Any) -> Run:
        made = radiographs.run(tmp_path, run_id, options={"rescore": False})
        return replace(made, started=started, **changes)

    now = run("now")
    finish(run("old", "2024"))
    finish(run("new", "2025"))
    finish(run("other inputs", "2023", inputs="other"))
    finish(run("rules", "2026", inputs="i2", basis=replace(now.basis, rules="r")))
    finish(run("model", basis=replace(now.basis, model="m")))
    finish(run("key", basis=replace(now.basis, pseudonyms="k")))
    begin(run("killed"))
    begin(run("model killed", basis=replace(now.basis, model="m")))
    assert known(now) == [
        ("killed", False, True),
        ("new", True, True),
        ("other inputs", True, True),
        ("rules", True, False),
    ]
    assert known(now, rescore=True) == []


def test_a_rescore_takes_over_a_rescore(tmp_path: Path) -> None:
    killed = radiographs.run(tmp_path, "killed", options={"rescore": True})
    begin(killed)
    now = radiographs.run(tmp_path, "now")
    assert known(now, rescore=True) == [("killed", False, True)]


def test_a_run_of_a_version_without_a_basis_is_passed_over(tmp_path: Path) -> None:
    now = radiographs.run(tmp_path, "now")
    finish(radiographs.run(tmp_path, "old"))
    document = {"run_id": "old", "started": "2026", "finished": "2026"}
    runs.write_json(now.record("run.json").replace("now", "old"), document)
    assert known(now) == []


def test_cleaning_keeps_what_counts(tmp_path: Path) -> None:
    done, killed = (radiographs.run(tmp_path, name) for name in ("done", "killed"))
    finish(done)
    begin(done)
    begin(killed)
    runs.write_bytes(f"{tmp_path}/_journal/outlived/segment-0.parquet", b"")
    for run in (done, killed):
        runs.write_bytes(run.instances("part-00000.parquet"), b"")
        runs.write_bytes(run.studies("part-00000.parquet"), b"")
    retention.clean(radiographs.run(tmp_path, "now"))
    left = sorted(
        str(path.relative_to(tmp_path).parent)
        for path in tmp_path.rglob("*")
        if path.is_file()
    )
    assert sorted(set(left)) == [
        "_journal/killed",
        "instances/run=done",
        "runs/done",
        "studies/run=done",
    ]


def test_closing_deletes_the_journals_that_were_taken_over(tmp_path: Path) -> None:
    run = radiographs.run(tmp_path, "now")
    begin(run)
    begin(radiographs.run(tmp_path, "same"))
    begin(replace(radiographs.run(tmp_path, "other"), inputs="other"))
    finish(run)
    retention.close(run)
    assert [path.name for path in (tmp_path / "_journal").iterdir()] == ["other"]


def test_retiring_keeps_the_run_that_has_just_finished(tmp_path: Path) -> None:
    for year in (2024, 2025):
        finish(replace(radiographs.run(tmp_path, f"run-{year}"), started=f"{year}"))
    # The clock was set back.
    tonight = replace(radiographs.run(tmp_path, "tonight"), started="1970")
    finish(tonight)
    retention.retire(tonight, 2)
    left = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert left == ["run-2025", "tonight"]


def test_a_journal_of_the_same_name_that_says_something_else_is_no_use(
    tmp_path: Path,
) -> None:
    run = radiographs.run(tmp_path, "night")
    begin(replace(run, basis=replace(run.basis, rules="others")))
    retention.clean(run)
    assert not known(run)
    begin(run)
    Path(run.journal("run.json")).write_text("{")
    retention.clean(run)
    assert not Path(run.journal()).exists()
    begin(run)
    retention.clean(run)
    assert known(run) == [("night", False, True)]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"run_id": "x"}', '{"basis": 1}'])
def test_a_record_that_is_none_stops_nobody(tmp_path: Path, text: str) -> None:
    run = radiographs.run(tmp_path, "night")
    for folder in ("_journal/x", "runs/x"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "run.json").write_text(text)
    (tmp_path / "runs/x/_SUCCESS").touch()
    retention.clean(run)
    assert files_of(run) == ()
    finish(run)
    retention.close(run)
    retention.retire(run, 1)


def test_retiring_keeps_the_newest_and_journals_since(tmp_path: Path) -> None:
    for year in range(2020, 2026):
        made = radiographs.run(tmp_path, f"run-{year}")
        finish(replace(made, started=f"{year}"))
    for year in (2022, 2025):
        begin(replace(radiographs.run(tmp_path, f"killed-{year}"), started=f"{year}"))
    retention.retire(radiographs.run(tmp_path, "run-2025"), 2)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "run-2024",
        "run-2025",
    ]
    assert [path.name for path in (tmp_path / "_journal").iterdir()] == ["killed-2025"]
