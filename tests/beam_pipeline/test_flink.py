"""What is refused, filled in and warned of before a job goes to Flink."""

from __future__ import annotations

import argparse
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    FlinkRunnerOptions,
    PipelineOptions,
    SetupOptions,
)

from beam_pipeline import flink, options, runner
from beam_pipeline.flink import FlinkJobOptions
from beam_pipeline.options import UsageError

POOL = ("--environment_type=EXTERNAL", "--environment_config=localhost:50000")


class JobManager:
    """Answers as a JobManager does; a test may change what."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "/overview": {"flink-version": "2.2.1", "slots-total": 6},
            "/jobmanager/config": [
                {"key": "restart-strategy.type", "value": "fixed-delay"}
            ],
        }
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(answers[self.path]).encode())

            def log_message(self, *args: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"


@pytest.fixture
def manager() -> Iterator[JobManager]:
    found = JobManager()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def checked(*flags: str) -> PipelineOptions:
    """Beam's options after the check of a command with these flags of Beam's."""
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    arguments = parser.parse_args(["--input=s3://exports", "--output=/results"])
    beam_options = PipelineOptions(["--runner=FlinkRunner", *flags])
    runner.check(options.scoring_options(arguments, flags), beam_options)
    return beam_options


def test_what_was_left_out_is_filled_in(manager: JobManager) -> None:
    found = checked(f"--flink_master={manager.address}", *POOL)
    assert found.view_as(FlinkRunnerOptions).parallelism == 6
    assert found.view_as(FlinkJobOptions).max_bundle_time_mills == 600_000
    assert found.view_as(FlinkJobOptions).execution_mode_for_batch == "BATCH_FORCED"
    assert found.view_as(SetupOptions).sdk_location == "container"
    debug = found.view_as(DebugOptions)
    assert debug.lookup_experiment("disable_logging_submission_environment")


def test_what_was_given_stays(manager: JobManager) -> None:
    given = ["--parallelism=2", "--max_bundle_time_mills=5", "--sdk_location=x.tar.gz"]
    found = checked(f"--flink_master={manager.address}", *POOL, *given)
    assert found.view_as(FlinkRunnerOptions).parallelism == 2
    assert found.view_as(FlinkJobOptions).max_bundle_time_mills == 5
    assert found.view_as(SetupOptions).sdk_location == "x.tar.gz"


def test_the_embedded_cluster_needs_no_environment() -> None:
    found = checked("--flink_master=[local]")
    assert found.view_as(FlinkRunnerOptions).parallelism == -1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--environment_type EXTERNAL"),
        (("--environment_type=DOCKER",), "--environment_config IMAGE"),
        (("--environment_type=EXTERNAL",), "HOST:PORT"),
        (("--environment_type=PROCESS",), '"command"'),
        (("--environment_type=PROCESS", "--environment_config=/w"), '"command"'),
        ((*POOL, "--save_main_session"), "--save_main_session"),
        ((*POOL, "--setup_file=setup.py"), "--setup_file"),
        ((*POOL, "--flink_version=1.20"), "--flink_version 2.2"),
    ],
)
def test_what_cannot_work_is_refused(
    manager: JobManager, flags: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        checked(f"--flink_master={manager.address}", *flags)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "flags",
    [
        ("--environment_type=DOCKER", "--environment_config=ours:1"),
        ("--environment_type=PROCESS", '--environment_config={"command": "/w"}'),
        ("--environment_type=PROCESS", "--environment_options=process_command=/w"),
        (*POOL, "--flink_version=1.20", "--flink_job_server_jar=mine.jar"),
    ],
)
def test_what_can_work_is_not(manager: JobManager, flags: tuple[str, ...]) -> None:
    checked(f"--flink_master={manager.address}", *flags)


def test_nobody_at_the_address_is_said() -> None:
    with pytest.raises(UsageError, match="no JobManager"):
        checked("--flink_master=localhost:1", *POOL)


def test_something_else_at_the_address_is_said(manager: JobManager) -> None:
    manager.answers["/overview"] = ["not Flink"]
    with pytest.raises(UsageError, match="no JobManager"):
        checked(f"--flink_master=http://{manager.address}/", *POOL)


def test_a_cluster_that_does_not_restart_is_a_warning(
    manager: JobManager, caplog: pytest.LogCaptureFixture
) -> None:
    checked(f"--flink_master={manager.address}", *POOL)
    assert "restart strategy" not in caplog.text
    manager.answers["/jobmanager/config"] = []
    checked(f"--flink_master={manager.address}", *POOL)
    assert "restart strategy" in caplog.text


def test_too_few_slots_are_a_warning(
    manager: JobManager, caplog: pytest.LogCaptureFixture
) -> None:
    checked(f"--flink_master={manager.address}", *POOL, "--parallelism=7")
    assert "6 slots" in caplog.text


def test_local_paths_are_a_warning_where_the_cluster_is_elsewhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    cluster = flink.Cluster("2.2.1", 6, restarts=True)
    monkeypatch.setattr(flink, "ask", lambda master: cluster)
    checked("--flink_master=localhost:8081", *POOL)
    assert not caplog.text
    checked("--flink_master=flink.hospital:8081", *POOL)
    assert "/results" in caplog.text
    assert "s3://exports" not in caplog.text


def test_a_job_server_elsewhere_knows_its_own_cluster() -> None:
    checked("--job_endpoint=jobs:8099", "--flink_master=flink:8081", *POOL)


def test_other_runners_are_left_alone() -> None:
    found = checked("--runner=FnApiRunner")
    assert found.view_as(FlinkJobOptions).max_bundle_time_mills is None
