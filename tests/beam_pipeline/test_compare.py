"""The whole command, on runs of the whole job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from beam_pipeline.__main__ import main
from tests import finished_runs, radiographs
from tests.finished_runs import scored

ROOT = Path(__file__).parent.parent.parent
BRIGHTNESS = {"dark": 0.2, "dim": 0.4, "middling": 0.52, "light": 0.6, "bright": 0.8}


class Doubtful(radiographs.Brightness):
    """The same model with logits half as far from zero, and higher."""

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 32, 32, 1), tf.uint8, name="image"),
        ]
    )
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        found = super().serve(image)
        logits = found["logits"] / 2 + tf.constant([0.0, 0.3])
        return {**found, "logits": logits, "probabilities": tf.nn.softmax(logits)}


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    """Outputs `out`, of two thresholds, and `new`, of a new model on a copy; `in`."""
    root = tmp_path_factory.mktemp("nights")
    (root / "in").mkdir()
    for number, (name, brightness) in enumerate(BRIGHTNESS.items()):
        write(root / "in" / f"{name}.dcm", brightness, StudyInstanceUID=f"1.{number}")
    shutil.copy(root / "in" / "dim.dcm", root / "in" / "dim again.dcm")
    write(root / "in" / "side.dcm", 0.7, ViewPosition="LL", StudyInstanceUID="1.9")
    (root / "in" / "empty.dcm").touch()
    (root / "in" / "text.dcm").write_text("no DICOM" * 100)
    score(root / "in", root / "out", model_dir, "monday")
    score(root / "in", root / "out", model_dir, "tuesday", "--threshold=0.2")
    shutil.copytree(root / "in", root / "copy")
    new = radiographs.save_model(root / "model", Doubtful(), version="2")
    score(root / "copy", root / "new", new, "shadow", "--no_eligibility")
    return root


def write(path: Path, brightness: float, **attributes: str) -> None:
    dataset = radiographs.dicom(radiographs.chest(brightness), **attributes)
    path.write_bytes(radiographs.to_bytes(dataset))


def score(folder: Path, output: Path, model: Path, run_id: str, *flags: str) -> None:
    command = ["score", f"--input={folder}", f"--output={output}", f"--model={model}"]
    assert main([*command, f"--run_id={run_id}", "--read_workers=1", *flags]) == 0


def compare(*arguments: str | Path) -> int:
    return main(["compare", *map(str, arguments)])


def by_name(output: Path, run_id: str, name: str = "instances") -> dict[str, dict]:
    rows = pq.read_table(output / name / f"run={run_id}").to_pylist()
    key = {"instances": "source_uri", "studies": "study_instance_uid"}[name]
    return {Path(row[key]).name: row for row in rows}


def test_a_lower_threshold_changes_decisions_and_no_score(
    nights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    json_file, rows_file = tmp_path / "c.json", tmp_path / "rows.parquet"
    out = nights / "out"
    asked = out / "runs" / "monday", out, f"--json={json_file}", f"--rows={rows_file}"
    assert compare(*asked) == 0
    a, b = by_name(out, "monday"), by_name(out, "tuesday")
    gained = {n for n in a if a[n]["positive"] is False and b[n]["positive"]}
    assert gained == {"dim.dcm", "dim again.dcm"}
    document = json.loads(json_file.read_text())
    assert document["by_key"] == {
        "source_uri": len(a),
        "source_digest": 0,
        "sop_instance_uid": 0,
    }
    assert document["decisions"]["gained"] == len(gained)
    assert document["decisions"]["lost"] == 0
    assert document["differences"]["equal"] == document["decisions"]["changed"]["of"]
    assert document["status_changed"]["count"] == 0
    assert document["a"]["model"]["operating_point"] == "default"
    assert document["b"]["model"]["thresholds"] == [0.2]
    carried = sum(row["carried_from"] == "monday" for row in b.values())
    assert document["b"]["carried"] == carried > 0 == document["a"]["carried"]
    assert document["a"]["flags"] == {"DUPLICATE": 1}
    assert document["studies"]["decisions"]["gained"] == 1
    rows = pq.read_table(rows_file).to_pylist()
    assert {Path(row["source_uri_a"]).name for row in rows} == gained
    assert {row["study_instance_uid"] for row in rows} == {"1.1"}
    text = capsys.readouterr().out
    assert "0.5 (default)" in text
    assert "0.2 (--threshold)" in text
    assert "changed: 2, 33.33%" in text


def test_a_new_model_is_held_against_the_old_one_on_a_copy_of_the_export(
    nights: Path, tmp_path: Path
) -> None:
    json_file, rows_file = tmp_path / "c.json", tmp_path / "rows.parquet"
    asked = nights / "out~1", nights / "new", f"--json={json_file}"
    assert compare(*asked, f"--rows={rows_file}") == 0
    a, b = by_name(nights / "out", "monday"), by_name(nights / "new", "shadow")
    twice = [n for n in a if a[n]["score"] is not None and b[n]["score"] is not None]
    difference = {n: b[n]["score"] - a[n]["score"] for n in twice}
    document = json.loads(json_file.read_text())
    # The old model did not read the side view whole, and neither of them what is no
    # image: that has neither digest nor UID.
    assert document["matched"] == len(a) - 2
    assert document["by_key"]["source_uri"] == 0
    assert document["by_key"]["sop_instance_uid"] == 1
    assert (document["only_a"], document["only_b"]) == (2, 2)
    [change] = document["transitions"]
    assert (change["reason_a"], change["status_b"]) == ("LATERAL_VIEW", "SCORED")
    found = document["differences"]
    assert found["mean"] == pytest.approx(sum(difference.values()) / len(twice))
    assert found["quantiles"][-1] == pytest.approx(max(difference.values()))
    assert found["spearman"] == pytest.approx(1)
    assert document["a"]["model"]["version"] == "1"
    assert document["b"]["model"]["version"] == "2"
    changed = {n for n in twice if a[n]["positive"] != b[n]["positive"]}
    assert document["decisions"]["changed"]["count"] == len(changed)
    rows = {
        Path(row["source_uri_b"]).name for row in pq.read_table(rows_file).to_pylist()
    }
    assert rows == {*changed, "side.dcm"}
    largest = max(difference.values(), key=abs)
    [mover, *_] = document["movers"]
    assert mover["score_b"] - mover["score_a"] == pytest.approx(largest)
    studies = [
        by_name(nights / o, r, "studies")
        for o, r in (("out", "monday"), ("new", "shadow"))
    ]
    assert document["studies"]["matched"] == len(studies[0].keys() & studies[1])


def test_de_identified_runs_meet_by_pseudonyms_of_one_key(
    nights: Path, tmp_path: Path, model_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "key").write_text("secret" * 20)
    secret = ["--deidentify", f"--pseudonym_key_file={tmp_path}/key"]
    output = tmp_path / "out"
    score(nights / "in", output, model_dir, "1", *secret)
    score(nights / "copy", output, model_dir, "2", *secret, "--threshold=0.2")
    capsys.readouterr()
    asked = f"--json={tmp_path}/c.json", f"--rows={tmp_path}/rows.parquet"
    assert compare(output / "runs/1", output / "runs/2", *asked) == 0
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["by_key"] == {
        "source_uri": 0,
        "source_digest": 6,
        "sop_instance_uid": 1,
    }
    assert document["decisions"]["gained"] == 2
    text = capsys.readouterr().out + (tmp_path / "c.json").read_text()
    text += str(pq.read_table(tmp_path / "rows.parquet").to_pylist())
    assert str(nights) not in text
    assert "dim" not in text
    assert "same key" not in text
    assert compare(nights / "out", output, *asked) == 0
    assert json.loads((tmp_path / "c.json").read_text())["matched"] == 0
    assert "not de-identified with the same key" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (None, None, False),
        (None, {"key_id": "1", "deidentify": False}, False),
        (None, {"key_id": "1", "deidentify": True}, True),
        (
            {"key_id": "2", "deidentify": True},
            {"key_id": "1", "deidentify": True},
            True,
        ),
        (
            {"key_id": "1", "deidentify": True},
            {"key_id": "1", "deidentify": True},
            False,
        ),
    ],
)
def test_runs_that_cannot_meet_are_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    a: dict | None,
    b: dict | None,
    told: bool,
) -> None:
    finished_runs.write(tmp_path / "a", "a", [scored("x", 0.1)], pseudonyms=a)
    finished_runs.write(tmp_path / "b", "b", [scored("x", 0.1)], pseudonyms=b)
    assert compare(tmp_path / "a", tmp_path / "b") == 0
    told_so = "not de-identified with the same key" in capsys.readouterr().out
    assert told_so == told


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 0, None),
        (["--max_changed_decisions=0.34"], 0, None),
        (
            ["--max_changed_decisions=0.33"],
            1,
            "2 of 6 files (33.33%) decided otherwise, --max_changed_decisions",
        ),
        (["--max_status_changes=0"], 0, None),
    ],
)
def test_limits_give_the_exit_code(
    nights: Path,
    caplog: pytest.LogCaptureFixture,
    flags: list[str],
    code: int,
    message: str | None,
) -> None:
    out = nights / "out"
    assert compare(f"{out}~1", out, *flags) == code
    broken = [r.getMessage() for r in caplog.records if "Limit" in r.getMessage()]
    assert broken == ([] if message is None else [f"Limit broken: {message}"])


@pytest.mark.parametrize("limit", ["--max_changed_decisions", "--max_status_changes"])
def test_a_limit_on_nothing_is_broken(tmp_path: Path, limit: str) -> None:
    finished_runs.write(tmp_path, "a", [scored("x", 0.1)])
    finished_runs.write(tmp_path, "b", [scored("y", 0.1)])
    runs = tmp_path / "runs" / "a", tmp_path / "runs" / "b"
    assert compare(*runs) == 0
    assert compare(*runs, f"{limit}=0.5") == 1


def test_a_changed_status_breaks_its_limit(tmp_path: Path) -> None:
    broken = finished_runs.unscored("x", finished_runs.Status.ERROR, "EMPTY_FILE")
    finished_runs.write(tmp_path, "a", [scored("x", 0.1), scored("y", 0.2)])
    finished_runs.write(tmp_path, "b", [broken, scored("y", 0.2)])
    runs = tmp_path / "runs" / "a", tmp_path / "runs" / "b"
    assert compare(*runs, "--max_status_changes=0.5") == 0
    assert compare(*runs, "--max_status_changes=0.4") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out", "out/runs/gone"], "gone is no finished run"),
        (["out", "out/runs/tuesday"], "both are the run"),
        (["out~1", "out", "--rows=in/text.dcm/rows"], "rows cannot be written"),
        (["out~1", "out", "--moovers=3"], "the nearest flag is --movers"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    nights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(nights)
    assert compare(*arguments) == 2
    assert message in capsys.readouterr().err


def test_an_unfinished_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("a", "b"):
        finished_runs.write(tmp_path, name, [scored("x", 0.1)])
    (tmp_path / "runs" / "b" / "_SUCCESS").unlink()
    assert compare(tmp_path, tmp_path / "runs" / "b") == 2
    assert "is no finished run" in capsys.readouterr().err


def test_help_answers_at_once() -> None:
    code = (
        "import sys\n"
        "from beam_pipeline.__main__ import main\n"
        "try: main(['compare', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'scipy', 'rich', 'apache_beam', 'numpy'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "OUTPUT~1" in done.stdout


def test_files_can_be_written_beside_where_it_was_started(
    nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = nights / "out"
    for _ in range(2):
        assert compare(f"{out}~1", out, "--json=c.json", "--rows=new/r.parquet") == 0
    assert sorted(os.listdir(tmp_path)) == ["c.json", "new"]
    assert os.listdir(tmp_path / "new") == ["r.parquet"]
