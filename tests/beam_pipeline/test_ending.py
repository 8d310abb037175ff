"""What a scheduler sees of the real command: exit code, the last line, metrics."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from beam_pipeline import ending, manifest
from beam_pipeline.ending import Ending, ExitCode
from tests import radiographs

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    stdout: str
    metrics: Path

    @property
    def line(self) -> dict[str, str]:
        """The `key=value`s of the last line."""
        head, *pairs = shlex.split(self.stdout.splitlines()[-1])
        assert head == "radiograph-scorer"
        return dict(pair.split("=", 1) for pair in pairs)

    def value(self, name: str, **labels: str) -> float | None:
        found = samples(self.metrics)
        labels["schedule"] = self.metrics.stem
        return found.get((f"radiograph_scorer_{name}", frozenset(labels.items())))


def samples(path: Path) -> Samples:
    families = text_string_to_metric_families(path.read_text("utf-8"))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def a_chest(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = radiographs.to_bytes(radiographs.dicom(radiographs.chest(0.5)))
    (folder / "chest.dcm").write_bytes(data)
    return folder


def broken_model(folder: Path) -> Path:
    """A model that passes every check and cannot be loaded."""
    model = radiographs.save_model(folder)
    (model / "saved_model.pb").write_bytes(b"no graph")
    files = manifest.file_digests(model)
    manifest.save(radiographs.manifest(files=files), model)
    return model


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory, model_dir: Path
) -> dict[str, Ended]:
    """One run of each way to end."""
    root = tmp_path_factory.mktemp("ended")
    chest = a_chest(root / "2026-03-07" / "a ward")
    flags = {
        "complete": [f"--input={root}/{{date}}", "--date=2026-03-07"],
        "failed": [f"--input={chest}", f"--model={broken_model(root / 'broken')}"],
        "refused": [f"--input={chest}", "--operating_point=none"],
        "misspelt": [f"--input={chest}", "--threshold=high"],
        "limit_broken": [f"--input={chest}", "--min_inputs=2"],
        "nothing_matched": [f"--input={root}/{{date}}", "--date=2026-03-08"],
    }

    def run(name: str) -> Ended:
        command = [sys.executable, "-m", "beam_pipeline", "score"]
        command += [f"--model={model_dir}", f"--output={root / 'the results' / name}"]
        command += [f"--metrics_file={root / name}.prom", "--read_workers=1"]
        command += flags[name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return Ended(done.returncode, done.stdout, root / f"{name}.prom")

    with ThreadPoolExecutor(2) as executor:
        return dict(zip(flags, executor.map(run, flags), strict=True))


CODES = {
    "complete": 0,
    "failed": 1,
    "refused": 2,
    "misspelt": 2,
    "limit_broken": 3,
    "nothing_matched": 4,
}


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_exit_code_last_line_and_metrics_agree(
    ended: dict[str, Ended], name: str, code: int
) -> None:
    found = ended[name]
    assert found.code == code
    assert found.line["exit_code"] == str(code)
    status = "refused" if name == "misspelt" else name
    assert found.line["status"] == status
    assert found.value("exit_code") == code
    assert found.value("last_run_timestamp_seconds") == pytest.approx(
        time.time(), abs=300
    )


def test_the_line_of_a_complete_run_says_how_it_went(ended: dict[str, Ended]) -> None:
    line = ended["complete"].line
    counts = {name: line[name] for name in ("listed", "scored", "rejected", "error")}
    assert counts == {"listed": "1", "scored": "1", "rejected": "0", "error": "0"}
    assert line["studies"] == "1"
    assert float(line["seconds"]) > 0
    assert float(line["files_per_second"]) > 0
    assert line["output"].endswith("/the results/complete")
    assert line["run_id"] in ended["complete"].stdout.splitlines()[-2]


def test_metrics_of_a_complete_run(ended: dict[str, Ended]) -> None:
    found = ended["complete"]
    assert found.value("files", status="SCORED") == 1
    assert found.value("files", status="ERROR") == 0
    assert found.value("listed_files") == found.value("studies") == 1
    assert found.value("run_duration_seconds") > 0
    assert found.value("last_success_timestamp_seconds") == found.value(
        "last_run_timestamp_seconds"
    )
    [info] = [
        dict(labels)
        for name, labels in samples(found.metrics)
        if name == "radiograph_scorer_info"
    ]
    assert (info["model"], info["model_version"]) == ("brightness", "1")


def test_metrics_of_a_run_that_broke_a_limit(ended: dict[str, Ended]) -> None:
    found = ended["limit_broken"]
    assert found.value("limit_broken", limit="min_inputs") == 1
    assert found.value("limit_broken", limit="max_error_rate") == 0
    assert found.value("last_success_timestamp_seconds") > 0


@pytest.mark.parametrize("name", ["failed", "refused", "nothing_matched"])
def test_metrics_of_a_run_without_rows_have_no_files_and_no_success(
    ended: dict[str, Ended], name: str
) -> None:
    found = ended[name]
    assert found.value("last_success_timestamp_seconds") == 0
    assert found.value("files", status="SCORED") is None
    listed = 0 if name == "nothing_matched" else None
    assert found.value("listed_files") == listed


def test_a_line_can_be_taken_apart_and_leaves_out_what_is_not_known() -> None:
    given = Ending(
        exit_code=ExitCode.COMPLETE,
        run_id="night",
        seconds=4.04,
        output='/my "own" results',
        record={"listed": 2, "statuses": {"SCORED": 2}, "studies": 1, "carried": 0},
    )
    assert ending.line(given) == (
        "radiograph-scorer run_id=night status=complete exit_code=0 listed=2 scored=2 "
        'carried=0 studies=1 seconds=4.0 files_per_second=0.50 output="/my \\"own\\" '
        'results"'
    )
    assert ending.line(Ending(exit_code=ExitCode.REFUSED)) == (
        "radiograph-scorer status=refused exit_code=2 seconds=0.0"
    )
