"""Beam's flags, and the runner that they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import (
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import (
    ExtendedProvisionInfo,
    FnApiRunner,
)
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from beam_pipeline import flink


def beam_flags() -> set[str]:
    """Every flag that Beam's Python SDK knows."""
    # Beam lists its options' names publicly, but not their flags: aliases would miss.
    parser = _BeamArgumentParser(add_help=False, conflict_handler="resolve")
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return set(parser._option_string_actions)


def prepare(options: PipelineOptions, paths: Sequence[str]) -> None:
    """Check the options of the runner that was asked for, and fill in what is missing.

    Args:
        options: changed in place.
        paths: that the job reads and writes.

    Raises:
        UsageError: which flag cannot work, and what to give instead.
    """
    if options.view_as(StandardOptions).runner == "FlinkRunner":
        flink.prepare(options, paths)


def of(options: PipelineOptions) -> Any:
    """The runner that was asked for, or the in-process one.

    Never Beam's default: it tries to download another runner first. Worker processes
    learn the options from the provision info, which Beam fills for no named runner.
    """
    name = options.view_as(StandardOptions).runner
    if name not in (None, "FnApiRunner"):
        return name
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    return FnApiRunner(
        provision_info=ExtendedProvisionInfo(
            beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
        )
    )
