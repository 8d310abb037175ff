"""The runner that Beam's flags ask for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import (
    ExtendedProvisionInfo,
    FnApiRunner,
)
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from beam_pipeline import dataflow, flink
from beam_pipeline.options import ScoringOptions


class InThread(FnApiRunner):
    """The in-process runner, in a thread of its own.

    Beam takes an interrupt of the thread that works for a DoFn's error, and one that
    comes while TensorFlow works has to wait; whose thread waits is interrupted at once.
    """

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> Any:
        work = ThreadPoolExecutor(1, "run")
        try:
            return work.submit(super().run_pipeline, pipeline, options).result()
        finally:
            work.shutdown(wait=False)


def check(options: ScoringOptions, beam_options: PipelineOptions) -> None:
    """Refuse what the runner that was asked for cannot do; add what it needs.

    Raises:
        UsageError: which flag, and what to give instead.
    """
    asked = _name(beam_options)
    if asked == "dataflow":
        dataflow.check(options, beam_options)
    elif asked == "flink":
        flink.check(options, beam_options)


def template(options: PipelineOptions) -> str | None:
    """Where the job is only described, to be run later; None where it runs now."""
    path: str | None = options.view_as(GoogleCloudOptions).template_location
    return path if _name(options) == "dataflow" else None


def _name(options: PipelineOptions) -> str:
    """The runner that was asked for, as Beam takes it: in any case, short or long."""
    name = options.view_as(StandardOptions).runner or ""
    return str(name.rpartition(".")[2].lower().removesuffix("runner"))


def of(options: PipelineOptions) -> Any:
    """The runner that was asked for, or the in-process one.

    Never Beam's default: it tries to download another runner first. Worker processes
    learn the options from the provision info, which Beam fills for no named runner.
    """
    name = options.view_as(StandardOptions).runner
    if name not in (None, "FnApiRunner"):
        return name
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    return InThread(
        provision_info=ExtendedProvisionInfo(
            beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
        )
    )
