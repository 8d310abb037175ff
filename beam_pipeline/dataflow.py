"""What Dataflow must be told, and what it must not: before anything is submitted.

Dataflow finds out minutes later what is wrong here, on machines that are paid for. What
is left out and has one right answer is added, and a line of the log says so.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    AzureOptions,
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    S3Options,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from beam_pipeline.manifest import DEFAULT_MODEL
from beam_pipeline.options import ScoringOptions, UsageError

_LOGGER = logging.getLogger(__name__)

# That of the Dockerfile: functions are pickled here and unpickled there.
IMAGE_PYTHON = (3, 11)

# One process a machine: it has one model, and readers of its own for every core.
_ONE_PROCESS = "no_use_multiple_sdk_containers"
# A second thread has files read while the first ends its bundle; both share the model.
_THREADS = 2
# The image has 3.3 GB once unpacked, and CUDA's wheels more than that again.
_GPU_DISK_GB = 50
_CPU_MACHINE = "n2-standard-4"
# A pattern that matches too much is not to rent hundreds of machines.
_MAX_WORKERS = 10

# The machines that carry a GPU:
# https://cloud.google.com/compute/docs/gpus
_FAMILIES = {
    "nvidia-l4": "g2-",
    "nvidia-tesla-t4": "n1-",
    "nvidia-tesla-p4": "n1-",
    "nvidia-tesla-p100": "n1-",
    "nvidia-tesla-v100": "n1-",
    "nvidia-tesla-a100": "a2-",
    "nvidia-a100-80gb": "a2-ultragpu-",
    "nvidia-h100-80gb": "a3-highgpu-",
    "nvidia-h100-mega-80gb": "a3-megagpu-",
}
_GPU_MACHINES = {"nvidia-l4": "g2-standard-8", "nvidia-tesla-t4": "n1-standard-8"}
_ACCELERATOR = "worker_accelerator"
_EXAMPLE = (
    "--dataflow_service_options="
    "'worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver'"
)
_SECRETS = (
    (S3Options, "s3_secret_access_key"),
    (S3Options, "s3_session_token"),
    (AzureOptions, "azure_connection_string"),
)


@dataclass(frozen=True)
class Accelerator:
    """The GPUs of each machine, as `worker_accelerator` names them.

    Attributes:
        type: as Compute Engine calls it: `nvidia-l4`.
        count: how many.
        shared: whether several processes use one, by NVIDIA's Multi-Process Service.
    """

    type: str
    count: int
    shared: bool

    @staticmethod
    def parse(text: str) -> Accelerator:
        """What follows `worker_accelerator=`.

        Raises:
            UsageError: it is not of the form that Dataflow reads.
        """
        fields = dict(_pair(part) for part in text.split(";"))
        kind, count = fields.pop("type", ""), fields.pop("count", "")
        if not re.fullmatch(r"nvidia-[a-z0-9-]+", kind):
            raise _malformed(text, "type:nvidia-… names the GPU")
        if not re.fullmatch(r"[1-9][0-9]*", count):
            raise _malformed(text, "count:1 or more says how many")
        if fields.pop("install-nvidia-driver", None) is None:
            raise _malformed(
                text, "install-nvidia-driver is missing, without which no GPU is seen"
            )
        shared = fields.pop("use_nvidia_mps", None) is not None
        if fields:
            raise _malformed(text, f"{next(iter(fields))!r} is unknown")
        return Accelerator(kind, int(count), shared)


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition(":")
    return name, value


def _malformed(text: str, why: str) -> UsageError:
    return UsageError(f"{_ACCELERATOR}={text}: {why}; as in {_EXAMPLE}")


def check(options: ScoringOptions, beam_options: PipelineOptions) -> None:
    """Refuse what Dataflow cannot run, and add what it needs to `beam_options`.

    Raises:
        UsageError: a flag that is missing or does not fit, and what to give instead.
    """
    _require_packages()
    _require_python(sys.version_info[:2])
    _check_project(beam_options)
    _refuse_secrets(beam_options)
    if not is_rehearsal(beam_options):
        _check_paths(options, beam_options)
    _check_image(beam_options)
    cloud = beam_options.view_as(GoogleCloudOptions)
    if cloud.template_location and options.metrics_file:
        raise UsageError(
            "--metrics_file with --template_location would tell of a night that has "
            "not begun; leave it out"
        )
    accelerator = _accelerator(beam_options)
    if accelerator is not None:
        _check_accelerator(accelerator, beam_options)
    _check_processes(options, beam_options, accelerator)
    _complete(options, beam_options, accelerator)


def is_rehearsal(beam_options: PipelineOptions) -> bool:
    """Whether the service is on this machine, so that nothing reaches Google.

    Beam itself then takes local paths too: the job's description is written and can be
    looked at.
    """
    endpoint = beam_options.view_as(GoogleCloudOptions).dataflow_endpoint
    return urlsplit(endpoint or "").hostname == "localhost"


def _require_packages() -> None:
    try:
        importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
    except ImportError as error:
        raise UsageError(
            "--runner DataflowRunner needs Beam's packages for Google Cloud: "
            "pip install -c constraints.txt 'radiograph-scorer[gcp]'"
        ) from error


def _require_python(version: tuple[int, ...]) -> None:
    if version != IMAGE_PYTHON:
        here, there = (".".join(map(str, each)) for each in (version, IMAGE_PYTHON))
        raise UsageError(
            f"this is Python {here} and the image has {there}: what one pickles the "
            f"other cannot read; submit the job with Python {there}"
        )


def _check_project(beam_options: PipelineOptions) -> None:
    cloud = beam_options.view_as(GoogleCloudOptions)
    needed = {
        "project": "the project that pays, as in --project=my-project",
        "region": "where the machines run, as in --region=europe-west4; best where "
        "the bucket is",
        "temp_location": "a folder in a bucket, as in --temp_location=gs://bucket/tmp",
    }
    for name, what in needed.items():
        if not getattr(cloud, name):
            raise UsageError(f"Dataflow needs --{name}: {what}")
    for name in ("temp_location", "staging_location"):
        path = getattr(cloud, name)
        if path and not path.startswith("gs://") and not is_rehearsal(beam_options):
            raise UsageError(f"--{name}={path}: Dataflow needs a gs:// path here")


def _check_paths(options: ScoringOptions, beam_options: PipelineOptions) -> None:
    """Everything that workers read or write is where they can reach it."""
    named: list[tuple[str, str | None]] = [
        *(("input", each) for each in options.input),
        *(("input_manifest", each) for each in options.input_manifest),
        ("output", options.output),
        ("metadata", options.metadata),
        ("pseudonym_key_file", options.pseudonym_key_file),
    ]
    if options.model != str(DEFAULT_MODEL):
        named.append(("model", options.model))
    for flag, path in named:
        if path and FileSystems.get_scheme(path) is None:
            raise UsageError(
                f"--{flag} {path} is on this machine, which Dataflow's do not see; "
                "put it into a bucket and give its gs:// path"
            )


def _refuse_secrets(beam_options: PipelineOptions) -> None:
    for view, name in _SECRETS:
        if getattr(beam_options.view_as(view), name):
            raise UsageError(
                f"--{name}: a job's options are kept with it and shown to all who may "
                "see the job; give the worker's service account the right instead"
            )


def _check_image(beam_options: PipelineOptions) -> None:
    if not beam_options.view_as(WorkerOptions).sdk_container_image:
        raise UsageError(
            "Dataflow needs --sdk_container_image: the image that the Dockerfile "
            "builds, as in --sdk_container_image="
            "europe-west4-docker.pkg.dev/my-project/radiographs/scorer:0.4.0"
        )
    setup = beam_options.view_as(SetupOptions)
    for name in ("setup_file", "requirements_file", "extra_packages"):
        if getattr(setup, name):
            raise UsageError(
                f"--{name}: every worker would install it when it starts; build it "
                "into the image"
            )
    if setup.save_main_session:
        raise UsageError(
            "--save_main_session: this job's functions are in packages that the image "
            "has; leave it out"
        )
    if setup.sdk_location not in ("default", "container"):
        raise UsageError(
            f"--sdk_location={setup.sdk_location}: the image has Beam; leave it out"
        )


def _accelerator(beam_options: PipelineOptions) -> Accelerator | None:
    if beam_options.view_as(DebugOptions).lookup_experiment(_ACCELERATOR):
        raise UsageError(f"{_ACCELERATOR} is no experiment any more: {_EXAMPLE}")
    text = _services(beam_options).get(_ACCELERATOR)
    return None if text is None else Accelerator.parse(text)


def _services(beam_options: PipelineOptions) -> dict[str, str]:
    given = beam_options.view_as(GoogleCloudOptions).dataflow_service_options or ()
    return {name: value for name, _, value in (each.partition("=") for each in given)}


def _check_accelerator(accelerator: Accelerator, beam_options: PipelineOptions) -> None:
    cloud = beam_options.view_as(GoogleCloudOptions)
    if cloud.flexrs_goal:
        raise UsageError(
            f"--flexrs_goal={cloud.flexrs_goal}: FlexRS has no GPUs; leave it out, or "
            f"leave out {_ACCELERATOR} and score on CPUs"
        )
    debug = beam_options.view_as(DebugOptions)
    if "enable_prime" in _services(beam_options) or debug.lookup_experiment(
        "enable_prime"
    ):
        raise UsageError(f"enable_prime: Dataflow Prime has no {_ACCELERATOR}")
    hints = beam_options.view_as(StandardOptions).resource_hints
    if any(hint.startswith("accelerator=") for hint in hints):
        raise UsageError(
            f"--resource_hints=accelerator=… and {_ACCELERATOR} exclude each other; "
            "leave the hint out: the whole job needs the GPU"
        )
    _check_machine(accelerator, beam_options)


def _check_machine(accelerator: Accelerator, beam_options: PipelineOptions) -> None:
    worker = beam_options.view_as(WorkerOptions)
    family = _FAMILIES.get(accelerator.type)
    if family is None:
        _LOGGER.warning(
            "%s is none of the GPUs known here: whether --machine_type fits is not "
            "checked",
            accelerator.type,
        )
    if worker.machine_type is None and accelerator.type not in _GPU_MACHINES:
        raise UsageError(
            f"Dataflow needs --machine_type for {accelerator.type}"
            + (f", one that begins with {family}" if family else "")
        )
    if family and worker.machine_type and not worker.machine_type.startswith(family):
        raise UsageError(
            f"--machine_type={worker.machine_type} carries no {accelerator.type}; "
            f"give one that begins with {family}"
        )


def _check_processes(
    options: ScoringOptions,
    beam_options: PipelineOptions,
    accelerator: Accelerator | None,
) -> None:
    """One process a machine, or as many as share the GPU."""
    debug = beam_options.view_as(DebugOptions)
    if accelerator is None or not accelerator.shared:
        return
    if debug.lookup_experiment(_ONE_PROCESS):
        raise UsageError(
            f"use_nvidia_mps lets processes share a GPU, and --experiments="
            f"{_ONE_PROCESS} leaves one process; leave one of them out"
        )
    if accelerator.count > 1:
        raise UsageError("use_nvidia_mps is for one GPU a machine: count:1")
    if options.read_workers is None:
        raise UsageError(
            "use_nvidia_mps starts a process a core, and each of them a reader a core; "
            "give --read_workers 1"
        )


def _complete(
    options: ScoringOptions,
    beam_options: PipelineOptions,
    accelerator: Accelerator | None,
) -> None:
    """What was left out and has one right answer."""
    debug = beam_options.view_as(DebugOptions)
    # The list of installed packages would be the one file to fetch at start.
    experiments = ["disable_logging_submission_environment"]
    if accelerator is None or not accelerator.shared:
        experiments.append(_ONE_PROCESS)
    for name in experiments:
        if not debug.lookup_experiment(name):
            _say("experiments", name)
            debug.add_experiment(name)
    for view, defaults in _defaults(accelerator).items():
        _fill(beam_options.view_as(view), defaults)
    name = re.sub("[^a-z0-9]+", "-", options.run_id.lower()).strip("-")
    _fill(beam_options.view_as(GoogleCloudOptions), {"job_name": f"score-{name}"})
    worker = beam_options.view_as(WorkerOptions)
    if worker.num_workers is None:
        _fill(worker, {"max_num_workers": _MAX_WORKERS})


def _defaults(
    accelerator: Accelerator | None,
) -> dict[Callable[[Any], Any], Mapping[str, object]]:
    machine: dict[str, object] = {"machine_type": _CPU_MACHINE}
    if accelerator is not None:
        machine = {
            "machine_type": _GPU_MACHINES.get(accelerator.type),
            "disk_size_gb": _GPU_DISK_GB,
        }
    return {
        SetupOptions: {"sdk_location": "container", "save_main_session": False},
        DebugOptions: {"number_of_worker_harness_threads": _THREADS},
        WorkerOptions: machine,
    }


def _fill(view: Any, defaults: Mapping[str, object]) -> None:
    for name, value in defaults.items():
        if getattr(view, name) in (None, "default"):
            _say(name, value)
            setattr(view, name, value)


def _say(name: str, value: object) -> None:
    _LOGGER.warning("Added for Dataflow: --%s=%s", name, value)
