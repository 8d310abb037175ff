"""Several runs under one output: what is known is neither read nor decoded again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_pipeline import saved_model
from beam_pipeline.__main__ import main
from beam_pipeline.pseudonyms import Pseudonyms
from beam_pipeline.records import Outcome
from tests import radiographs

SAME = ("run_id", "carried_from", "scored_at")


def dicom(brightness: float, **attributes: Any) -> bytes:
    chest = radiographs.chest(brightness)
    return radiographs.to_bytes(radiographs.dicom(chest, **attributes))


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A folder with a row of every kind: two decisions, a flag, a rule, an error."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "dark.dcm").write_bytes(dicom(0.2, StudyInstanceUID="1.2"))
    (folder / "bright.dcm").write_bytes(dicom(0.8, StudyInstanceUID="1.2"))
    (folder / "again.dcm").write_bytes((folder / "bright.dcm").read_bytes())
    (folder / "odd.dcm").write_bytes(dicom(0.5, ViewPosition=""))
    (folder / "side.dcm").write_bytes(dicom(0.6, ViewPosition="LL"))
    (folder / "broken.dcm").write_bytes(dicom(0.5)[:-100])
    return folder


class Output:
    """An output folder, and the runs that are made into it."""

    def __init__(self, folder: Path, export: Path, model_dir: Path) -> None:
        self.folder = folder
        self._fixed = [f"--input={export}", f"--output={folder}"]
        self._fixed += [f"--model={model_dir}"]

    def score(self, run_id: str, *flags: str) -> dict[str, dict[str, Any]]:
        """The rows of a new run, by the names of the files."""
        assert main(["score", *self._fixed, f"--run_id={run_id}", *flags]) == 0
        return self.rows(run_id)

    def rows(self, run_id: str) -> dict[str, dict[str, Any]]:
        rows = pq.read_table(self.folder / "instances" / f"run={run_id}").to_pylist()
        found = {Path(row["source_uri"]).name: row for row in rows}
        assert len(found) == len(rows)
        return found

    def studies(self, run_id: str) -> list[dict[str, Any]]:
        return pq.read_table(self.folder / "studies" / f"run={run_id}").to_pylist()

    def record(self, run_id: str) -> dict[str, Any]:
        return json.loads((self.folder / "runs" / run_id / "run.json").read_text())


@pytest.fixture
def output(tmp_path: Path, export: Path, model_dir: Path) -> Output:
    return Output(tmp_path / "out", export, model_dir)


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def spoil(folder: Path, *names: str) -> None:
    """Put other bytes of the same size and time where files were."""
    for name in names:
        path = folder / name
        status = path.stat()
        path.write_bytes(b"\0" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_second_night_reads_nothing_and_has_the_same_rows(
    output: Output, export: Path
) -> None:
    first = output.score("first")
    # Whoever opened one of these would find an error in it.
    spoil(export, "dark.dcm", "bright.dcm", "again.dcm", "odd.dcm", "side.dcm")
    second = output.score("second")
    for name, row in second.items():
        assert without(row, *SAME) == without(first[name], *SAME)
        assert row["run_id"] == "second"
        is_error = row["status"] == "ERROR"
        assert row["carried_from"] == (None if is_error else "first")
    assert second["dark.dcm"]["scored_at"] == first["dark.dcm"]["scored_at"]
    assert output.record("second")["carried"] == 5
    assert output.record("first")["carried"] == 0
    before, after = output.studies("first"), output.studies("second")
    assert [without(s, "run_id") for s in before] == [
        without(s, "run_id") for s in after
    ]


def test_a_night_on_which_every_file_is_known_loads_no_model(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    output.score("first")
    loaded: list[Path] = []
    monkeypatch.setattr(saved_model, "load", loaded.append)
    # Also where one of them is tried again, because it could not be decoded.
    assert output.score("second")["broken.dcm"]["status"] == "ERROR"
    assert loaded == []


def test_a_third_night_knows_who_scored(output: Output) -> None:
    for run_id in ("first", "second", "third"):
        rows = output.score(run_id)
    assert rows["dark.dcm"]["carried_from"] == "first"


def test_another_threshold_decides_anew(output: Output, export: Path) -> None:
    first = output.score("first")
    assert not first["dark.dcm"]["positive"]
    spoil(export, "dark.dcm", "bright.dcm", "again.dcm", "odd.dcm")
    second = output.score("second", "--threshold=0.01")
    assert second["dark.dcm"]["positive"]
    assert second["dark.dcm"]["threshold"] == 0.01
    assert second["dark.dcm"]["operating_point"] is None
    assert second["dark.dcm"]["label"] == "BRIGHT"
    assert second["dark.dcm"]["score"] == first["dark.dcm"]["score"]
    studies = {s["study_instance_uid"]: s for s in output.studies("second")}
    assert studies["1.2"]["threshold"] == 0.01


def test_a_calibration_comes_and_goes(
    output: Output, export: Path, model_dir: Path, tmp_path: Path
) -> None:
    from beam_pipeline import calibration, manifest

    digest = manifest.verify(manifest.load(model_dir), model_dir)
    site = tmp_path / "site.json"
    calibration.save(radiographs.site_calibration(model_digest=digest), site)
    first = output.score("first")
    spoil(export, "dark.dcm", "bright.dcm", "again.dcm", "odd.dcm")
    calibrated = output.score("second", f"--calibration={site}")
    assert calibrated["dark.dcm"]["score"] > first["dark.dcm"]["score"]
    assert calibrated["dark.dcm"]["calibration"] is not None
    third = output.score("third")
    for name in ("dark.dcm", "bright.dcm"):
        assert third[name]["score"] == pytest.approx(first[name]["score"], abs=1e-6)
        assert third[name]["calibration"] is None


def test_a_file_that_changed_is_scored_again(output: Output, export: Path) -> None:
    output.score("first")
    (export / "dark.dcm").write_bytes(dicom(0.9, StudyInstanceUID="1.2"))
    os.utime(export / "dark.dcm", (1, 1))
    second = output.score("second")
    assert second["dark.dcm"]["positive"]
    assert second["dark.dcm"]["carried_from"] is None


def test_an_error_is_tried_again(output: Output, export: Path) -> None:
    assert output.score("first")["broken.dcm"]["status"] == "ERROR"
    times = (export / "broken.dcm").stat()
    (export / "broken.dcm").write_bytes(dicom(0.5))
    os.utime(export / "broken.dcm", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert output.score("second")["broken.dcm"]["status"] == "SCORED"


def test_the_same_bytes_under_another_name_are_not_decoded(
    output: Output, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = output.score("first")
    (export / "odd.dcm").rename(export / "resent.dcm")
    os.utime(export / "resent.dcm", (1, 1))
    second = output.score("second")
    row = second["resent.dcm"]
    names = (*SAME, "source_uri", "source_modified")
    assert without(row, *names) == without(first["odd.dcm"], *names)
    assert row["carried_from"] == "first"
    assert row["scored_at"] == first["odd.dcm"]["scored_at"]


RULES = """
extends = "default"
without = ["view", "not_lateral"]
[[rule]]
name = "dark room"
attribute = "view_position"
any_of = ["LL"]
flag = "SIDEWAYS"
"""


def test_other_rules_are_asked_of_the_header_alone(
    output: Output, export: Path, tmp_path: Path, model_dir: Path
) -> None:
    first = output.score("first")
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    half = (export / "dark.dcm").read_bytes()
    times = (export / "dark.dcm").stat()
    # The header is whole; whoever decoded the pixels would find others.
    (export / "dark.dcm").write_bytes(half[:-2000] + b"\xff" * 2000)
    os.utime(export / "dark.dcm", ns=(times.st_atime_ns, times.st_mtime_ns))
    second = output.score("second", f"--eligibility={rules}")
    assert second["dark.dcm"]["score"] == first["dark.dcm"]["score"]
    assert second["dark.dcm"]["carried_from"] == "first"
    assert "SIDEWAYS" in second["dark.dcm"]["flags"]
    # It was rejected; now it is scored.
    assert second["side.dcm"]["status"] == "SCORED"
    assert second["side.dcm"]["flags"] == []


def test_rescore_knows_nothing(output: Output) -> None:
    output.score("first")
    rows = output.score("second", "--rescore")
    assert {row["carried_from"] for row in rows.values()} == {None}


def test_a_study_over_two_nights_has_all_its_images(
    tmp_path: Path, model_dir: Path
) -> None:
    (tmp_path / "in" / "1").mkdir(parents=True)
    (tmp_path / "in" / "2").mkdir()
    bright = dicom(0.8, StudyInstanceUID="1.2", SOPInstanceUID="1.2.1")
    dark = dicom(0.2, StudyInstanceUID="1.2", SOPInstanceUID="1.2.2")
    (tmp_path / "in" / "1" / "a.dcm").write_bytes(bright)
    (tmp_path / "in" / "2" / "b.dcm").write_bytes(dark)
    Output(tmp_path / "out", tmp_path / "in" / "1", model_dir).score("first")
    night = Output(tmp_path / "out", tmp_path / "in" / "2", model_dir)
    assert list(night.score("second", "--threshold=0.99")) == ["b.dcm"]
    [study] = night.studies("second")
    assert (study["images"], study["scored"]) == (2, 2)
    assert study["driving_sop_instance_uid"] == "1.2.1"
    assert study["run_id"] == "second"
    # Decided at the threshold of this night.
    assert study["positive"] is False


def test_keep_runs_retires_the_oldest(output: Output) -> None:
    for run_id in ("a", "b", "c"):
        output.score(run_id)
    output.score("d", "--keep_runs=2")
    for table in ("runs", "instances", "studies"):
        left = {path.name for path in (output.folder / table).iterdir()}
        assert {name.removeprefix("run=") for name in left} == {"c", "d"}


def test_nothing_is_left_in_the_journal(output: Output) -> None:
    output.score("first")
    assert not (output.folder / "_journal").exists()


def test_a_run_that_did_not_finish_leaves_no_parts(output: Output) -> None:
    output.score("first")
    (output.folder / "runs" / "first" / "_SUCCESS").unlink()
    output.score("second")
    left = {path.name for path in (output.folder / "instances").iterdir()}
    assert left == {"run=second"}


def test_files_that_have_just_changed_wait(output: Output, export: Path) -> None:
    hour_ago = time.time() - 3600
    for path in export.iterdir():
        os.utime(path, (hour_ago, hour_ago))
    (export / "dark.dcm").touch()
    row = output.score("first", "--settle_seconds=600")["dark.dcm"]
    assert (row["status"], row["reason"]) == ("ERROR", "STILL_CHANGING")
    assert output.score("second")["dark.dcm"]["status"] == "SCORED"


def test_deidentified_rows_are_known_by_their_keyed_paths(
    output: Output, export: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    flags = (f"--pseudonym_key_file={key}", "--deidentify")
    output.score("first", *flags)
    spoil(export, "dark.dcm", "bright.dcm", "again.dcm", "odd.dcm", "side.dcm")
    first, second = output.rows("first"), output.score("second", *flags)
    assert first.keys() == second.keys()
    assert {n: without(r, *SAME) for n, r in first.items()} == {
        n: without(r, *SAME) for n, r in second.items()
    }
    assert output.record("second")["carried"] == 5
    # Without the key these rows are nobody's.
    export.joinpath("dark.dcm").write_bytes(dicom(0.2))
    third = output.score("third", "--max_error_rate=1")
    assert third["dark.dcm"]["carried_from"] is None


@pytest.mark.parametrize("changed", [False, True])
def test_what_a_table_says_of_a_file_is_part_of_it(
    tmp_path: Path, model_dir: Path, changed: bool
) -> None:
    (tmp_path / "in").mkdir()
    png = tmp_path / "in" / "a.png"
    Image.fromarray(radiographs.chest(0.7)).save(png)
    table = tmp_path / "in.csv"
    table.write_text("path,study_instance_uid\nin/a.png,1.2\n")
    output = Output(tmp_path / "out", tmp_path / "in", model_dir)
    output.score("first", f"--metadata={table}")
    if changed:
        table.write_text("path,study_instance_uid\nin/a.png,1.3\n")
    row = output.score("second", f"--metadata={table}")["a.png"]
    # It is read again, and known by its digest.
    assert row["study_instance_uid"] == ("1.3" if changed else "1.2")
    assert row["carried_from"] == "first"


@pytest.mark.parametrize("damage", ["emptied", "cut", "gone"])
def test_a_damaged_table_costs_its_rows_and_no_night(
    output: Output, damage: str
) -> None:
    first = output.score("first")
    [part] = (output.folder / "instances" / "run=first").iterdir()
    data = part.read_bytes()
    part.unlink()
    if damage != "gone":
        part.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    second = output.score("second")
    for name, row in second.items():
        assert without(row, *SAME) == without(first[name], *SAME)
        assert row["carried_from"] is None


def test_a_study_outlives_an_export_folder_that_is_emptied_every_night(
    tmp_path: Path, model_dir: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    night = Output(tmp_path / "out", folder, model_dir)
    for number in range(3):
        for path in folder.iterdir():
            path.unlink()
        uid = f"1.2.{number}"
        data = dicom(0.3 + 0.2 * number, StudyInstanceUID="1.2", SOPInstanceUID=uid)
        (folder / f"{number}.dcm").write_bytes(data)
        night.score(f"night-{number}")
        [study] = night.studies(f"night-{number}")
        assert study["images"] == number + 1
    night.score("again", "--rescore")
    [study] = night.studies("again")
    assert (study["images"], study["driving_sop_instance_uid"]) == (3, "1.2.2")


def test_a_deidentified_row_has_no_etag_of_the_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    etag = "5d41402abc4b2a76b9719d911017c592"
    named, hidden = (
        Pseudonyms(str(key), deidentify).applied(
            Outcome(source_uri="a", source_etag=etag)
        )
        for deidentify in (False, True)
    )
    assert named.source_etag == etag
    assert etag not in str(hidden.source_etag)
    assert hidden.source_etag == Pseudonyms(str(key), True).etag(etag)
