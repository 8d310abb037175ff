"""The whole command, on a small export with a model whose scores can be foretold."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import expit, softmax

from beam_pipeline import calibration, manifest
from beam_pipeline.__main__ import main
from beam_pipeline.manifest import OperatingPoint
from tests import radiographs

Export = tuple[Path, dict[str, tuple[str, str | None]]]


def score(export: Path, output: Path, model_dir: Path, *flags: str) -> int:
    return main(
        [
            "score",
            f"--input={export}",
            f"--output={output}",
            f"--model={model_dir}",
            *flags,
        ]
    )


def rows(output: Path) -> dict[str, dict]:
    table = pq.read_table(output / "instances")
    return {Path(row["source_uri"]).name: row for row in table.to_pylist()}


@pytest.fixture(scope="module")
def scored(
    tmp_path_factory: pytest.TempPathFactory, model_dir: Path
) -> tuple[Path, dict]:
    """An output of one run over three chests: dark, middling, bright."""
    root = tmp_path_factory.mktemp("scored")
    (root / "in").mkdir()
    for name, brightness in [("dark", 0.2), ("middling", 0.45), ("bright", 0.8)]:
        dataset = radiographs.dicom(
            radiographs.chest(brightness), StudyInstanceUID="1.2.3"
        )
        (root / "in" / f"{name}.dcm").write_bytes(radiographs.to_bytes(dataset))
    assert score(root / "in", root / "out", model_dir, "--run_id=first") == 0
    return root, rows(root / "out")


def test_every_file_has_one_row_with_its_status_and_reason(
    export: Export, model_dir: Path, tmp_path: Path
) -> None:
    folder, expected = export
    assert score(folder, tmp_path / "out", model_dir) == 0
    table = pq.read_table(tmp_path / "out" / "instances")
    assert table.num_rows == len(expected)
    found = {n: (r["status"], r["reason"]) for n, r in rows(tmp_path / "out").items()}
    assert found == expected


def test_a_score_is_what_the_model_makes_of_the_picture(
    scored: tuple[Path, dict],
) -> None:
    for name, brightness in [("dark", 0.2), ("middling", 0.45), ("bright", 0.8)]:
        row = scored[1][f"{name}.dcm"]
        mean = radiographs.chest(brightness).mean()
        assert row["score"] == pytest.approx(
            radiographs.brightness_score(mean), abs=0.02
        )
        assert row["positive"] == (row["score"] >= 0.5)
        assert row["probabilities"][1] == pytest.approx(row["score"], abs=1e-6)
        assert (row["operating_point"], row["threshold"]) == ("default", 0.5)
        assert row["run_id"] == "first"


def test_the_study_row_has_the_top_image(scored: tuple[Path, dict]) -> None:
    root, instances = scored
    [study] = pq.read_table(root / "out" / "studies").to_pylist()
    bright = instances["bright.dcm"]
    assert (study["images"], study["scored"]) == (3, 3)
    assert (study["score"], study["positive"]) == (bright["score"], True)
    assert study["driving_sop_instance_uid"] == bright["sop_instance_uid"]


def test_the_record_says_how_the_time_of_the_device_went(
    scored: tuple[Path, dict],
) -> None:
    record = scored[0] / "out" / "runs" / "first" / "run.json"
    found = json.loads(record.read_text())["inference"]
    assert found["devices"] == [{"device": "CPU", "batch_size": 16}]
    # Three images are one batch, and nothing came after it.
    assert (found["batches"], found["idle_seconds"], found["idle_share"]) == (1, 0, 0)
    assert 0 < found["busy_seconds"] < 60


def test_another_run_stands_beside_the_first(
    scored: tuple[Path, dict], model_dir: Path
) -> None:
    root, first = scored
    flags = ("--run_id=second", "--operating_point=screening")
    assert score(root / "in", root / "out", model_dir, *flags) == 0
    table = pq.read_table(root / "out" / "instances")
    assert table.num_rows == 6
    second = [r for r in table.to_pylist() if r["run"] == "second"]
    for row in second:
        before = first[Path(row["source_uri"]).name]
        assert row["score"] == before["score"]
        assert row["positive"] == (row["score"] >= 0.2)


def test_a_threshold_of_ones_own_decides(
    scored: tuple[Path, dict], model_dir: Path, tmp_path: Path
) -> None:
    assert score(scored[0] / "in", tmp_path, model_dir, "--threshold=0.99") == 0
    assert {row["positive"] for row in rows(tmp_path).values()} == {False}
    assert {row["operating_point"] for row in rows(tmp_path).values()} == {None}


def test_broken_limits_give_exit_code_3(
    export: Export, model_dir: Path, tmp_path: Path
) -> None:
    folder, expected = export
    for flag in ("--max_error_rate=0.1", "--max_reject_rate=0.1", "--min_inputs=9"):
        output = tmp_path / flag
        assert score(folder, output, model_dir, flag) == 3
        assert list(output.glob("runs/*/_SUCCESS"))
        [record] = output.glob("runs/*/run.json")
        document = json.loads(record.read_text())
        [broken] = document["broken_limits"]
        assert f"--{broken['limit']}={broken['allowed']:g}" == flag
        statuses, listed = document["statuses"], len(expected)
        found = {
            "max_error_rate": statuses["ERROR"] / listed,
            "max_reject_rate": statuses["REJECTED"] / listed,
            "min_inputs": listed,
        }
        assert broken["found"] == found[broken["limit"]]
        assert 0 < document["seconds"] < 300


def test_worker_processes_give_the_same_rows(
    export: Export, model_dir: Path, tmp_path: Path
) -> None:
    folder, expected = export
    flags = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    assert score(folder, tmp_path / "out", model_dir, *flags) == 0
    found = {n: (r["status"], r["reason"]) for n, r in rows(tmp_path / "out").items()}
    assert found == expected


def test_a_model_that_is_not_blessed_scores_only_where_that_is_allowed(
    scored: tuple[Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = scored[0] / "in", tmp_path / "out"
    missed = replace(radiographs.BLESSING, blessed=False, reasons=("auc: missed",))
    model = radiographs.save_model(tmp_path / "model", blessing=missed)
    assert score(folder, output, model) == 2
    printed = capsys.readouterr().err
    assert "not blessed: auc: missed" in printed
    assert "--allow_unblessed" in printed
    assert not output.exists()
    flags = ("--allow_unblessed", "--run_id=r")
    assert score(folder, output, model, *flags) == 0
    assert {row["status"] for row in rows(output).values()} == {"SCORED"}
    document = json.loads((output / "runs" / "r" / "run.json").read_text())
    assert document["model"]["blessed"] is False
    assert document["options"]["allow_unblessed"] is True


def test_a_spread_stands_in_both_tables(
    scored: tuple[Path, dict], tmp_path: Path
) -> None:
    model = radiographs.save_model(
        tmp_path / "model", radiographs.SpreadBrightness(), spread=radiographs.SPREAD
    )
    assert score(scored[0] / "in", tmp_path / "out", model) == 0
    found = rows(tmp_path / "out")
    for name, brightness in [("dark", 0.2), ("middling", 0.45), ("bright", 0.8)]:
        mean = radiographs.chest(brightness).mean() / 255
        assert found[f"{name}.dcm"]["spread"] == pytest.approx(mean / 10, abs=1e-3)
    [study] = pq.read_table(tmp_path / "out" / "studies").to_pylist()
    assert study["spread"] == found["bright.dcm"]["spread"]
    assert {row["spread"] for row in scored[1].values()} == {None}


def site_file(folder: Path, model_dir: Path, **changes: object) -> Path:
    digest = manifest.verify(manifest.load(model_dir), model_dir)
    site = radiographs.site_calibration(model_digest=digest, **changes)
    calibration.save(site, folder / "site.json")
    return folder / "site.json"


def test_a_sites_calibration_is_applied_to_the_logits(
    scored: tuple[Path, dict], model_dir: Path, tmp_path: Path
) -> None:
    file = site_file(tmp_path, model_dir)
    flags = (f"--calibration={file}", "--run_id=r")
    assert score(scored[0] / "in", tmp_path / "out", model_dir, *flags) == 0
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    for name, row in rows(tmp_path / "out").items():
        before = scored[1][name]
        assert row["logits"] == before["logits"]
        expected = softmax(np.array(row["logits"], np.float64) / 2)
        assert row["score"] == pytest.approx(expected[1], rel=1e-12)
        np.testing.assert_allclose(row["probabilities"], expected, atol=1e-7)
        assert (row["threshold"], row["positive"]) == (0.6, row["score"] >= 0.6)
        assert (row["calibration"], before["calibration"]) == (digest, None)
    [study] = pq.read_table(tmp_path / "out" / "studies").to_pylist()
    assert study["calibration"] == digest
    document = json.loads((tmp_path / "out" / "runs" / "r" / "run.json").read_text())
    applied = document["calibration"]
    assert (applied["digest"], applied["site"]) == (digest, "Ward 3")
    assert applied["temperature"] == 2.0
    assert document["model"]["thresholds"] == [0.6]


def test_a_sites_calibration_of_a_multilabel_model(
    scored: tuple[Path, dict], tmp_path: Path
) -> None:
    point = radiographs.manifest().operating_points["default"]
    points = [
        {"default": OperatingPoint(**{**vars(point), "thresholds": pair})}
        for pair in ((0.5, 0.5), (0.65, 0.3))
    ]
    model = radiographs.save_model(
        tmp_path / "model",
        radiographs.MultilabelBrightness(),
        task="multilabel",
        findings=("DARK", "BRIGHT"),
        operating_points=points[0],
    )
    file = site_file(tmp_path, model, operating_points=points[1])
    flag = f"--calibration={file}"
    assert score(scored[0] / "in", tmp_path / "out", model, flag) == 0
    found = rows(tmp_path / "out")
    for row in found.values():
        expected = expit(np.array(row["logits"], np.float64) / 2)
        np.testing.assert_allclose(row["probabilities"], expected, atol=1e-7)
        assert row["score"] == pytest.approx(expected.max(), rel=1e-12)
        above = [bool(p >= t) for p, t in zip(expected, (0.65, 0.3), strict=True)]
        named = zip(("DARK", "BRIGHT"), above, strict=True)
        assert row["labels"] == [name for name, is_above in named if is_above]
        assert row["positive"] == any(above)
    assert found["middling.dcm"]["labels"] == ["BRIGHT"]


def test_a_calibration_that_cannot_be_used_is_refused(
    scored: tuple[Path, dict],
    model_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other.json"
    calibration.save(radiographs.site_calibration(), other)
    right = site_file(tmp_path, model_dir)
    cases = [
        ((f"--calibration={other}",), "the calibration of Ward 3 is for"),
        ((f"--calibration={tmp_path / 'none.json'}",), "there is no calibration"),
        ((f"--calibration={right}", "--operating_point=screening"), "leave --calibra"),
    ]
    for flags, message in cases:
        assert score(scored[0] / "in", tmp_path / "out", model_dir, *flags) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


REFUSALS = {
    "unknown flag": (["--operatng_point=x"], "the nearest flag is --operating_point"),
    "unknown Beam flag": (["--runer=x"], "the nearest flag is --runner"),
    "no such operating point": (["--operating_point=x"], "default, screening"),
    "no model": (["--model=/"], "is not a model"),
    "used run": (["--run_id=first"], "has a finished run of that name"),
    "strange scheme": (["--input=nosuch://x/**"], "cannot be listed"),
}


@pytest.mark.parametrize(("flags", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_work_is_refused_before_anything_is_read(
    scored: tuple[Path, dict],
    model_dir: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    root, _ = scored
    before = sorted(root.rglob("*"))
    assert score(root / "in", root / "out", model_dir, *flags) == 2
    assert message in capsys.readouterr().err
    assert [p for p in sorted(root.rglob("*")) if p.is_file()] == [
        p for p in before if p.is_file()
    ]


def test_an_output_among_the_inputs_is_refused(
    scored: tuple[Path, dict], model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = scored
    assert score(root, root / "out", model_dir) == 2
    assert "lies within --input" in capsys.readouterr().err


def test_relative_paths_are_understood_and_rows_name_absolute_ones(
    scored: tuple[Path, dict],
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(scored[0])
    assert score(Path("in/*.dcm"), tmp_path, model_dir) == 0
    uris = {row["source_uri"] for row in rows(tmp_path).values()}
    assert uris == {str(path) for path in (scored[0] / "in").iterdir()}
    assert score(Path("in"), Path("in/out"), model_dir) == 2
    assert "lies within --input" in capsys.readouterr().err


def test_nothing_matched_is_exit_code_4_and_names_the_pattern(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern = tmp_path / "export" / "*.dcm"
    assert score(pattern, tmp_path / "out", model_dir) == 4
    assert f"nothing matches {pattern}" in capsys.readouterr().err


def test_one_empty_pattern_does_not_cost_the_others(
    scored: tuple[Path, dict], model_dir: Path, tmp_path: Path
) -> None:
    flag = f"--input={tmp_path}/nothing/*"
    assert score(scored[0] / "in", tmp_path / "out", model_dir, flag) == 0
    assert len(rows(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--help"], "score"),
        (["score", "--help"], "--input_manifest"),
        (["score", "--output=out", "--inptu=x"], "the nearest flag is --input"),
        (["score", "--output=out", "--threshold=2"], "--threshold"),
        (["score", "--output=out"], "nothing to score"),
        (["compare", "a", "b", "--mover=3"], "the nearest flag is --movers"),
    ],
    ids=" ".join,
)
def test_help_and_what_is_refused_are_answered_without_heavy_imports(
    flags: list[str], said: str
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "beam_pipeline", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert said in done.stdout + done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"apache_beam", "tensorflow", "numpy", "pydicom", "pyarrow"}


@pytest.fixture
def heeded_sigint() -> Iterator[None]:
    """As a shell's background job, pytest and all that it starts ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_an_interrupted_run_leaves_no_success_and_no_half_file(
    model_dir: Path,
    tmp_path: Path,
    kind: signal.Signals,
    code: int,
    heeded_sigint: None,
) -> None:
    (tmp_path / "in").mkdir()
    noise = radiographs.gradient(1500, 1500)
    data = radiographs.to_bytes(radiographs.dicom(noise))
    first = tmp_path / "in" / "0.dcm"
    first.write_bytes(data)
    # More than any machine reads until the signal comes.
    for index in range(1, 4000):
        first.with_name(f"{index}.dcm").hardlink_to(first)
    command = [sys.executable, "-m", "beam_pipeline", "score"]
    command += [f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"]
    command += [f"--model={model_dir}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "out" / "_journal").exists():
        time.sleep(0.1)
    time.sleep(6)
    process.send_signal(kind)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == code
    if kind != signal.SIGKILL:
        assert re.search(rf"^{kind.name}: run \S+ is not complete$", said, re.MULTILINE)
        assert f" exit_code={code} " in said.splitlines()[-1]
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in left if path.name == "_SUCCESS"]
    for path in left:
        if path.suffix == ".parquet":
            pq.read_metadata(path)


def test_odd_names_and_a_fifo_have_their_rows(model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    data = radiographs.to_bytes(radiographs.dicom(radiographs.chest(0.5)))
    (folder / "good.dcm").write_bytes(data)
    with open(os.fsencode(folder) + b"/M\xfcller 1%.dcm", "wb") as stream:
        stream.write(data)
    os.mkfifo(folder / "fifo")
    assert score(folder, tmp_path / "out", model_dir) == 0
    found = sorted(
        (row["status"], row["reason"]) for row in rows(tmp_path / "out").values()
    )
    assert found == [("ERROR", "READ_FAILED"), ("SCORED", None), ("SCORED", None)]


def test_run_json_holds_no_credentials(
    scored: tuple[Path, dict], model_dir: Path, tmp_path: Path
) -> None:
    flags = ("--s3_secret_access_key=canary",)
    assert score(scored[0] / "in", tmp_path, model_dir, *flags, "--run_id=r") == 0
    text = (tmp_path / "runs" / "r" / "run.json").read_text()
    assert "canary" not in text
    assert json.loads(text)["model"]["name"] == "brightness"
