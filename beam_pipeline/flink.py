"""What a job on Flink needs to be told, and what it cannot do, before it is submitted.

See docs/flink.md for the reasons.
"""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    DebugOptions,
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
)
from apache_beam.runners.portability.flink_runner import MAGIC_HOST_NAMES, FlinkRunner

from beam_pipeline.options import ScoringOptions, UsageError

_LOGGER = logging.getLogger(__name__)

_ANSWER_SECONDS = 10
_NO_RESTARTS = ("none", "off", "disable")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# What this package's worker does not fetch.
_STAGED = ("setup_file", "requirements_file", "extra_packages", "save_main_session")


class FlinkJobOptions(PipelineOptions):
    """Options of Beam's Flink runner that only its Java half knows."""

    @classmethod
    def _add_argparse_args(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--max_bundle_size", type=int, help="elements of a bundle at most")
        add("--max_bundle_time_mills", type=int, help="milliseconds of it at most")
        add("--execution_mode_for_batch", help="Flink 1.x: PIPELINED or BATCH_FORCED")


# Cutting a bundle ends a batch early and empties the readers; Flink keeps nothing of a
# task that fails, so that short bundles would not save work. Blocking exchanges let a
# failure repeat its own stage and not those before it; Flink 2 has no others.
_DEFAULTS = {
    "max_bundle_time_mills": 600_000,
    "execution_mode_for_batch": "BATCH_FORCED",
}


@dataclass(frozen=True)
class Cluster:
    """What a JobManager says of itself.

    Attributes:
        version: of Flink, such as "2.2.1".
        slots: of all TaskManagers.
        restarts: whether a job goes on after one of its processes has died.
    """

    version: str
    slots: int
    restarts: bool


def check(options: ScoringOptions, beam_options: PipelineOptions) -> None:
    """Refuse what is known to fail later, and fill in what was left out.

    Raises:
        UsageError: which flag cannot work, and what to give instead.
    """
    _fill(beam_options)
    flink = beam_options.view_as(FlinkRunnerOptions)
    if flink.flink_master in MAGIC_HOST_NAMES:
        return
    _check_environment(beam_options)
    if beam_options.view_as(PortableOptions).job_endpoint is None:
        master = FlinkRunner.add_http_scheme(flink.flink_master)
        _fit(flink, ask(master))
        paths = (*options.input, options.output, str(options.model))
        _warn_of_local(paths, str(urlsplit(master).hostname))


def _fill(options: PipelineOptions) -> None:
    java = options.view_as(FlinkJobOptions)
    for name, value in _DEFAULTS.items():
        if getattr(java, name) is None:
            setattr(java, name, value)
    # Nothing is staged: workers have this package, and a cluster's artifact folder is
    # a path on the machine of the job server.
    setup = options.view_as(SetupOptions)
    if setup.sdk_location == "default":
        setup.sdk_location = "container"
    debug = options.view_as(DebugOptions)
    debug.add_experiment("disable_logging_submission_environment")


def _check_environment(options: PipelineOptions) -> None:
    given = options.view_as(PortableOptions)
    kind = (given.environment_type or "DOCKER").upper()
    config = given.environment_config
    if kind == "DOCKER" and not (
        config or given.lookup_environment_option("docker_container_image")
    ):
        raise UsageError(
            "--runner FlinkRunner: Flink would start containers of Beam's own image, "
            "which has not this package. Start `beam-pipeline-worker --pool 50000` on "
            "each TaskManager's machine and give --environment_type EXTERNAL "
            "--environment_config localhost:50000, or --environment_type DOCKER "
            "--environment_config IMAGE"
        )
    if kind == "EXTERNAL" and not (
        config or given.lookup_environment_option("external_service_address")
    ):
        raise UsageError(
            "--environment_type EXTERNAL needs --environment_config HOST:PORT, where "
            "each TaskManager reaches `beam-pipeline-worker --pool PORT`"
        )
    if kind == "PROCESS" and not (
        _command(config) or given.lookup_environment_option("process_command")
    ):
        raise UsageError(
            "--environment_type PROCESS needs --environment_config "
            '\'{"command": "/path/of/beam-pipeline-worker"}\''
        )
    setup = options.view_as(SetupOptions)
    staged = [name for name in _STAGED if getattr(setup, name)]
    if staged and kind in ("EXTERNAL", "PROCESS"):
        raise UsageError(
            f"--{staged[0]}: beam-pipeline-worker installs nothing; install what the "
            "job needs on every worker instead"
        )


def _command(config: str | None) -> Any:
    try:
        found = json.loads(config or "{}")
    except ValueError:
        return None
    return found.get("command") if isinstance(found, dict) else None


def _fit(flink: Any, cluster: Cluster) -> None:
    minor = ".".join(cluster.version.split(".")[:2])
    if flink.flink_job_server_jar is None and minor != flink.flink_version:
        raise UsageError(
            f"--flink_version {flink.flink_version}: the cluster at "
            f"{flink.flink_master} is Flink {cluster.version}; give --flink_version "
            f"{minor}"
        )
    # Beam's default is a single slot, whatever the cluster has.
    if flink.parallelism < 1 and cluster.slots:
        flink.parallelism = cluster.slots
    if flink.parallelism > cluster.slots:
        _LOGGER.warning(
            "--parallelism %d: the cluster has %d slots; the job waits for more",
            flink.parallelism,
            cluster.slots,
        )
    if not cluster.restarts:
        _LOGGER.warning(
            "The cluster has no restart strategy: the first process that dies will end "
            "the job. Set restart-strategy.type in Flink's config.yaml"
        )


def ask(master: str) -> Cluster:
    """What the JobManager at the URL `master` says of its cluster.

    Raises:
        UsageError: nothing there, or something else than Flink.
    """
    try:
        overview = _json(f"{master.rstrip('/')}/overview")
        config = _json(f"{master.rstrip('/')}/jobmanager/config")
        settings = {each["key"]: each["value"] for each in config}
        return Cluster(
            str(overview["flink-version"]),
            int(overview["slots-total"]),
            settings.get("restart-strategy.type", "none") not in _NO_RESTARTS,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UsageError(
            f"--flink_master {master}: no JobManager of Flink answers there ({reason})"
        ) from error


def _json(url: str) -> Any:
    with urllib.request.urlopen(  # noqa: S310 - the user's own cluster
        url, timeout=_ANSWER_SECONDS
    ) as answer:
        return json.loads(answer.read())


def _warn_of_local(paths: Sequence[str], host: str) -> None:
    local = [path for path in paths if FileSystems.get_scheme(path) is None]
    if local and host not in _LOOPBACK:
        _LOGGER.warning(
            "%s: a local path; the machine of every TaskManager must have it, with the "
            "same content, and see what the others write",
            ", ".join(local),
        )
