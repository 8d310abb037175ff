"""The whole job on a real cluster of Flink: its rows are those of the local job.

`make flink-test`. Killed with SIGKILL in mid-job: a Python worker, and a TaskManager.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from apache_beam.metrics import MetricsFilter

from beam_pipeline import score
from beam_pipeline.__main__ import main
from tests.flink import cluster as clusters
from tests.flink.cluster import ROOT, Cluster, process_flags, write_archive
from tests.flink.install import CACHE, Installation, installed

pytestmark = [pytest.mark.flink, pytest.mark.timeout(600)]

STUDIES = 2000
_JOB_SECONDS = 400
# A worker starts to read and to score within this, and has not ended.
_MID_SECONDS = 5


@pytest.fixture(scope="module")
def installation() -> Installation:
    return installed(CACHE)


@pytest.fixture(scope="module")
def cluster(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("flink")
    with clusters.running(installation, folder / "cluster") as started:
        yield started


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive") / "studies", STUDIES)


@pytest.fixture
def process(tmp_path: Path) -> list[str]:
    return process_flags(tmp_path / "beam-pipeline-worker")


def start(source: Path, output: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "beam_pipeline", "score", "--run_id=one"]
    command += [f"--input={source}", f"--output={output}", *flags]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def ended(job: subprocess.Popen[str]) -> str:
    """What a job printed that ended well."""
    try:
        printed, _ = job.communicate(timeout=_JOB_SECONDS)
    finally:
        job.kill()
    assert job.returncode == 0, printed
    return printed


def tables(output: Path) -> dict[str, pa.Table]:
    """What a run wrote, but for when; its journal is gone."""
    assert (output / "runs" / "one" / "_SUCCESS").exists()
    assert not list((output / "_journal").glob("*/*.parquet"))
    found = {}
    for name, key in (("instances", "source_uri"), ("studies", "study_instance_uid")):
        table = pq.read_table(output / name).sort_by(key)
        found[name] = table.drop_columns({"scored_at"} & set(table.column_names))
    return found


def assert_same(output: Path, expected: Path) -> None:
    found, wanted = tables(output), tables(expected)
    for name, table in found.items():
        for column in table.column_names:
            assert_equal(table[column], wanted[name][column], f"{name}.{column}")
    run, other = (
        json.loads((each / "runs" / "one" / "run.json").read_text())
        for each in (output, expected)
    )
    for key in ("listed", "rows", "studies", "statuses", "reasons"):
        assert run[key] == other[key]


def assert_equal(found: pa.ChunkedArray, expected: pa.ChunkedArray, name: str) -> None:
    """Equal; numbers of the model within what its batches' shapes change in them."""
    assert found.type == expected.type
    assert found.is_null().equals(expected.is_null()), name
    if pa.types.is_list(found.type) and pa.types.is_floating(found.type.value_type):
        found, expected = (pc.list_flatten(each) for each in (found, expected))
    if pa.types.is_floating(found.type):
        numbers = [np.asarray(each.drop_null()) for each in (found, expected)]
        np.testing.assert_allclose(*numbers, rtol=1e-4, atol=1e-5, err_msg=name)
    else:
        assert found.equals(expected), name


def test_the_demo_export_in_processes(
    cluster: Cluster, process: list[str], tmp_path: Path
) -> None:
    export = tmp_path / "export"
    assemble = [sys.executable, "demo/assemble.py", str(export)]
    subprocess.run(
        assemble, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    rules = "--eligibility=demo/rules.toml"
    ended(start(export, tmp_path / "local", rules))
    printed = ended(start(export, tmp_path / "flink", rules, *cluster.flags, *process))
    assert "SCORED" in printed
    assert_same(tmp_path / "flink", tmp_path / "local")


def test_a_worker_and_a_task_manager_die(
    cluster: Cluster, archive: Path, tmp_path: Path
) -> None:
    ended(start(archive, tmp_path / "local"))
    before = len(cluster.restarts())
    job = start(archive, tmp_path / "flink", *cluster.flags, *cluster.pool)
    try:
        clusters.await_that(lambda: bool(cluster.readers()), "studies to be read")
        time.sleep(_MID_SECONDS)
        at_first = set(cluster.readers())
        clusters.kill(min(at_first))
        clusters.await_that(lambda: len(cluster.restarts()) > before, "a restart")
        again = "studies to be read again"
        clusters.await_that(lambda: bool(set(cluster.readers()) - at_first), again)
        time.sleep(_MID_SECONDS)
        number = cluster.runs("Score")[0]
        cluster.kill_task_manager(number)
        cluster.start_task_manager(number)
    finally:
        printed = ended(job)
    assert f"{STUDIES:,} SCORED" in printed
    assert len(cluster.restarts()) >= before + 2
    assert_same(tmp_path / "flink", tmp_path / "local")
    instances = tables(tmp_path / "flink")["instances"]
    assert (
        instances.num_rows == len(set(instances["source_uri"].to_pylist())) == STUDIES
    )
    clusters.await_that(lambda: not cluster.workers(), "the workers to end")


# The runner hangs up on Beam's worker, whose thread then raises, here in this process.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_embedded_with_metrics(
    installation: Installation,
    export: tuple[Path, dict[str, tuple[str, str | None]]],
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, expected = export
    results: list[Any] = []
    monkeypatch.setattr(score, "_warn_of_metadata", results.append)
    output = tmp_path / "out"
    asked = [f"--input={folder}", f"--output={output}", f"--model={model_dir}"]
    asked += ["--run_id=one", "--runner=FlinkRunner", "--flink_master=[local]"]
    asked += [f"--flink_job_server_jar={installation.job_server}"]
    assert main(["score", *asked]) == 0
    rows: list[dict[str, Any]] = tables(output)["instances"].to_pylist()
    found = {
        Path(row["source_uri"]).name: (row["status"], row["reason"]) for row in rows
    }
    assert found == {Path(name).name: status for name, status in expected.items()}
    metrics = results[0].metrics()
    for status, count in {"SCORED": 3, "REJECTED": 2, "ERROR": 3}.items():
        named = MetricsFilter().with_namespace("beam_pipeline").with_name(status)
        counters = metrics.query(named)["counters"]
        assert sum(counter.result for counter in counters) == count
