"""The worker and its pool, against Beam's own runner and a provision service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
)
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.testing.util import assert_that

from beam_pipeline import worker
from beam_pipeline.worker import BootError, Runner

ROOT = Path(__file__).parent.parent.parent
ProvisionInfo = beam_provision_api_pb2.ProvisionInfo
RUNNER = Runner("1-1", "localhost:1", "localhost:2", "localhost:3", "")


def start(*flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "beam_pipeline.worker", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def pool() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of a pool, and its address."""
    process = start("--pool=0")
    line = next(line for line in process.stderr if "Workers are started" in line)
    yield process, line.split()[-1]
    process.terminate()
    process.wait(30)
    process.stderr.close()


class ProvisionOf(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
    def __init__(self, info: ProvisionInfo) -> None:
        self._info = info

    def GetProvisionInfo(self, request, context):  # noqa: N802
        sent = dict(context.invocation_metadata())
        assert sent["worker_id"] == "1-1"
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=self._info)


@pytest.fixture
def provision() -> Iterator[str]:
    """The address of a service whose job stages a file."""
    payload = beam_runner_api_pb2.ArtifactStagingToRolePayload(staged_name="our.tar.gz")
    info = ProvisionInfo()
    info.dependencies.add(
        role_urn=common_urns.artifact_roles.STAGING_TO.urn,
        role_payload=payload.SerializeToString(),
    )
    server = grpc.server(ThreadPoolExecutor(1))
    service = ProvisionOf(info)
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(None)


def see(_: int) -> tuple[str, int]:
    """What a DoFn finds in a worker, after it has filled a pipe."""
    from apache_beam.io.filesystems import FileSystems

    os.write(1, b"x" * 200_000)
    return FileSystems._pipeline_options.get_all_options()["job_name"], os.getpid()


def test_a_job_runs_with_its_options_and_may_print(
    pool: tuple[subprocess.Popen[str], str],
) -> None:
    process, address = pool
    # Nobody would read what the worker prints, and it would wait for that.
    reader = ThreadPoolExecutor(1).submit(process.stderr.read)
    flags = ["--runner=PortableRunner", "--job_endpoint=embed", "--job_name=ours"]
    flags += ["--environment_type=EXTERNAL", f"--environment_config={address}"]
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        seen = pipeline | beam.Create([0]) | beam.Map(see)
        assert_that(seen, partial(is_in_another_process, os.getpid()))
    process.terminate()
    assert "x" * 1000 in reader.result(timeout=30)
    process.wait(30)


def is_in_another_process(launcher: int, seen: list[tuple[str, int]]) -> None:
    ((name, pid),) = seen
    assert name == "ours"
    assert pid != launcher


def ask_for_worker(address: str, control: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1")
        request.provision_endpoint.url = control
        request.control_endpoint.url = control
        assert not stub.StartWorker(request, timeout=10).error


def children(process: subprocess.Popen[str]) -> list[int]:
    found = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for each in found for pid in each.read_text().split()]


def gone(pid: int) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_pool(
    pool: tuple[subprocess.Popen[str], str], number: signal.Signals
) -> None:
    process, address = pool
    # A runner that never answers keeps its workers waiting, with the same name each.
    for _ in range(2):
        ask_for_worker(address, "localhost:1")
    workers = children(process)
    assert len(workers) == 2
    time.sleep(3)
    process.send_signal(number)
    assert all(gone(pid) for pid in workers)


def test_a_port_that_is_taken_is_said(
    pool: tuple[subprocess.Popen[str], str],
) -> None:
    second = start(f"--pool={pool[1].split(':')[-1]}")
    _, said = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "is a pool running already?" in said


def test_who_calls_it_by_hand_learns_what_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert worker.main([]) == 2
    assert "--pool PORT" in capsys.readouterr().err


def test_files_that_a_job_stages_are_refused(
    provision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main(["--id=1-1", f"--provision_endpoint={provision}"]) == 1
    said = capsys.readouterr().err
    assert "our.tar.gz" in said
    assert "--setup_file" in said


def test_a_runner_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "_ASK_SECONDS", 0.3)
    assert worker.main(["--id=1-1", "--provision_endpoint=localhost:1"]) == 1
    assert "localhost:1" in capsys.readouterr().err


def test_what_the_runner_says_becomes_the_environment() -> None:
    options = JobServiceHandle.encode_pipeline_options({"s3_region_name": "eu"})
    info = ProvisionInfo(pipeline_options=options, runner_capabilities=["a", "b"])
    info.status_endpoint.url = "localhost:4"
    found = worker.environment_of(RUNNER, info)
    assert '"beam:option:s3_region_name:v1": "eu"' in found["PIPELINE_OPTIONS"]
    assert found["WORKER_ID"] == "1-1"
    assert found["RUNNER_CAPABILITIES"] == "a b"
    assert 'url: "localhost:2"' in found["CONTROL_API_SERVICE_DESCRIPTOR"]
    assert 'url: "localhost:3"' in found["LOGGING_API_SERVICE_DESCRIPTOR"]
    assert 'url: "localhost:4"' in found["STATUS_API_SERVICE_DESCRIPTOR"]


def test_no_way_to_get_work_is_said() -> None:
    runner = Runner("1-1", "localhost:1", "", "", "")
    with pytest.raises(BootError, match="control endpoint"):
        worker.environment_of(runner, ProvisionInfo())
