"""Beam's Python worker, as a runner on a cluster starts it.

    beam-pipeline-worker --pool 50000              a pool for EXTERNAL environments
    beam-pipeline-worker --id=… --provision_endpoint=…    one worker: the boot command

A runner gives the second form to the command of a PROCESS environment, and the pool
gives it to itself. It takes the place of the boot program in Beam's container images,
for machines on which this package is installed: it asks the runner for the pipeline's
options and serves. Nothing is downloaded or installed. What a worker prints goes to
its stderr, because nobody reads the pipe that some runners give it as stdout. It ends
when the process that started it does.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FAILED, REFUSED = 1, 2
_ASK_SECONDS = 60
_PARENT_SECONDS = 1.0
# Named by Beam's stager; it lists the packages of the launcher, for people.
_HARMLESS = ("submission_environment_dependencies.txt",)


class BootError(RuntimeError):
    """Why a worker cannot serve this job."""


@dataclass(frozen=True)
class Runner:
    """How to reach the runner.

    Attributes:
        worker_id: what the runner knows this worker by.
        provision: where it answers what the job is.
        control: where it gives work; asked of it where empty.
        logs: where it takes log records; asked of it where empty.
        semi_persist_dir: a folder of this worker's, or empty.
    """

    worker_id: str
    provision: str
    control: str
    logs: str
    semi_persist_dir: str


def main(argv: Sequence[str] | None = None) -> int:
    """Serve as a worker, or as a pool of them; the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if arguments.pool is not None:
        from beam_pipeline import worker_pool

        return worker_pool.serve(arguments.host, arguments.pool)
    if not arguments.id or not arguments.provision_endpoint:
        print(
            "beam-pipeline-worker: --id and --provision_endpoint are needed; a runner "
            "gives them. For a pool that a runner asks for workers: --pool PORT",
            file=sys.stderr,
        )
        return REFUSED
    runner = Runner(
        arguments.id,
        arguments.provision_endpoint,
        arguments.control_endpoint,
        arguments.logging_endpoint,
        arguments.semi_persist_dir,
    )
    _end_with_parent()
    try:
        environment = environment_of(runner, _provision(runner))
    except BootError as error:
        print(f"beam-pipeline-worker {runner.worker_id}: {error}", file=sys.stderr)
        return FAILED
    os.dup2(2, 1)
    return _serve(environment)


def environment_of(runner: Runner, info: Any) -> dict[str, str]:
    """The environment variables by which Beam's worker learns what a runner said.

    Raises:
        BootError: the job wants files that this worker does not fetch.
    """
    from google.protobuf import json_format

    staged = [name for name in map(_staged_name, info.dependencies) if name]
    if staged:
        raise BootError(
            f"the job stages {', '.join(staged)}, and this worker fetches nothing: "
            "install on it what the job needs, and submit without --setup_file, "
            "--requirements_file, --extra_package and --save_main_session"
        )
    control = runner.control or info.control_endpoint.url
    if not control:
        raise BootError("the runner named no control endpoint")
    found = {
        "WORKER_ID": runner.worker_id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(control),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    if logs := runner.logs or info.logging_endpoint.url:
        found["LOGGING_API_SERVICE_DESCRIPTOR"] = _descriptor(logs)
    if info.status_endpoint.url:
        status = _descriptor(info.status_endpoint.url)
        found["STATUS_API_SERVICE_DESCRIPTOR"] = status
    if runner.semi_persist_dir:
        found["SEMI_PERSISTENT_DIRECTORY"] = runner.semi_persist_dir
    return found


def _provision(runner: Runner) -> Any:
    import grpc
    from apache_beam.portability.api import (
        beam_provision_api_pb2,
        beam_provision_api_pb2_grpc,
    )

    # Options may be long, and gRPC's own limit is 4 MB.
    unlimited = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(runner.provision, unlimited) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        try:
            answer = service.GetProvisionInfo(
                request,
                # The runner tells workers apart by this.
                metadata=[("worker_id", runner.worker_id)],
                timeout=_ASK_SECONDS,
                wait_for_ready=True,
            )
        except grpc.RpcError as error:
            raise BootError(
                f"no answer from the runner at {runner.provision} "
                f"({error.code().name}); is that address reachable from this machine?"
            ) from error
    return answer.info


def _staged_name(dependency: Any) -> str | None:
    """The name of a file that the job brings; None where nobody misses it."""
    from apache_beam.portability import common_urns
    from apache_beam.portability.api import beam_runner_api_pb2

    if dependency.role_urn != common_urns.artifact_roles.STAGING_TO.urn:
        return None
    payload = beam_runner_api_pb2.ArtifactStagingToRolePayload
    name = str(payload.FromString(dependency.role_payload).staged_name)
    return None if name in _HARMLESS else name


def _descriptor(url: str) -> str:
    from apache_beam.portability.api import endpoints_pb2
    from google.protobuf import text_format

    descriptor = endpoints_pb2.ApiServiceDescriptor(url=url)
    return str(text_format.MessageToString(descriptor))


def _serve(environment: Mapping[str, str]) -> int:
    from apache_beam.runners.worker import sdk_worker_main

    from beam_pipeline import memory

    memory.keep_little()
    os.environ.update(environment)
    try:
        sdk_worker_main.main([])
        code = 0
    # Beam has logged it. The runner learns of it by the channel that closes.
    except Exception:
        code = FAILED
    sys.stderr.flush()
    # What is still at work belongs to a runner that has gone: its rows would be lost,
    # and the threads would keep this process, its memory and its GPU until they end.
    os._exit(code)


def _end_with_parent() -> None:
    """End this process soon after the one that started it has ended.

    PR_SET_PDEATHSIG would end it with the *thread* that started it: a runner's threads
    come and go.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        os._exit(FAILED)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="beam-pipeline-worker",
        description="Beam's Python worker with this package, for PROCESS and EXTERNAL "
        "environments.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--pool", type=int, metavar="PORT", help="start workers for those who ask here")
    add(
        "--host",
        default="localhost",
        help="where the pool listens (default: %(default)s). Whoever reaches it can "
        "run code on this machine",
    )
    add("--id", help="of the worker; this and the rest are given by the runner")
    for name in ("provision", "control", "logging", "artifact"):
        add(f"--{name}_endpoint", default="", metavar="HOST:PORT")
    add("--semi_persist_dir", default="", metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
