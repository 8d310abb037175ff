"""The subcommand `score`: check everything first, run the job, say how it went."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
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

from beam_pipeline import doctor, match, pipeline, write
from beam_pipeline.decide import Policy
from beam_pipeline.options import ScoringOptions, UsageError
from beam_pipeline.pipeline import ScoreRadiographs
from beam_pipeline.write import Run

_LOGGER = logging.getLogger(__name__)

_NOT_RECORDED = ("beam",)


class NothingMatched(Exception):
    """No file matches any of the patterns."""


def beam_flags() -> set[str]:
    """Every flag that Beam's Python SDK knows."""
    # Beam lists its options' names publicly, but not their flags: aliases would miss.
    parser = _BeamArgumentParser(add_help=False, conflict_handler="resolve")
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return set(parser._option_string_actions)


@dataclass(frozen=True)
class Job:
    """A run that may begin: everything that can be refused beforehand was checked."""

    options: ScoringOptions
    beam_options: PipelineOptions
    patterns: tuple[str, ...]
    score: ScoreRadiographs
    run: Run


def prepare(options: ScoringOptions) -> Job:
    """Check the model, the inputs and the output, in this order; read no study.

    Raises:
        ValueError: what cannot be used, and what to give instead.
        NothingMatched: no file to score.
    """
    score = ScoreRadiographs(
        model_dir=str(options.model),
        operating_point=options.operating_point,
        threshold=options.threshold,
        batch_size=options.batch_size,
        read_workers=options.read_workers,
        run_id=options.run_id,
    )
    run = Run(
        output=match.absolute(options.output),
        run_id=options.run_id,
        started=datetime.now(UTC).isoformat(),
        about=_about(options, score.policy),
    )
    beam_options = PipelineOptions(list(options.beam))
    FileSystems.set_options(beam_options)
    patterns = tuple(match.normalise(pattern) for pattern in options.input)
    _check_inputs(patterns)
    _check_output(run, patterns)
    return Job(options, beam_options, patterns, score, run)


def run(job: Job) -> list[str]:
    """Run the job and print its summary; the limits that it broke."""
    clock = time.monotonic()
    with beam.Pipeline(_runner(job.beam_options), job.beam_options) as running:
        pipeline.build(running, job.patterns, job.score, job.run)
    with FileSystems.open(job.run.record("run.json")) as stream:
        document = json.loads(stream.read())
    print(summary(document, job.run.output, time.monotonic() - clock))
    broken = broken_limits(document, job.options)
    for limit in broken:
        _LOGGER.error("Limit broken: %s", limit)
    return broken


def _check_output(run: Run, patterns: Sequence[str]) -> None:
    if FileSystems.exists(run.record("_SUCCESS")):
        raise UsageError(
            f"--run_id {run.run_id}: {run.output} has a finished run of that name; "
            "choose another, or leave the flag out"
        )
    if match.matches_any(run.instances("*")):
        raise UsageError(
            f"--run_id {run.run_id}: {run.output} has parts of a run of that name that "
            "did not finish; choose another, or remove them"
        )
    for pattern in patterns:
        if match.covers(pattern, run.instances("part-00000.parquet")):
            raise UsageError(
                f"--output {run.output} lies within --input {pattern}: the next run "
                "would take this one's results for radiographs"
            )
    write.probe(run.output)


def _check_inputs(patterns: Sequence[str]) -> None:
    empty = [pattern for pattern in patterns if not _matches(pattern)]
    if len(empty) == len(patterns):
        raise NothingMatched(f"nothing matches {', '.join(empty)}")
    for pattern in empty:
        _LOGGER.warning("Nothing matches %s; the other inputs are scored", pattern)


def _matches(pattern: str) -> bool:
    try:
        return match.matches_any(pattern)
    except (ValueError, BeamIOError) as error:
        raise UsageError(f"--input {pattern} cannot be listed: {error}") from error


def _runner(options: PipelineOptions) -> Any:
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


def _about(options: ScoringOptions, policy: Policy) -> dict[str, Any]:
    return {
        "model": {
            "name": policy.manifest.name,
            "version": policy.manifest.version,
            "digest": policy.model_digest,
            "preparation": policy.manifest.preparation.name,
            "operating_point": policy.operating_point,
            "thresholds": policy.thresholds,
        },
        "options": {
            name: str(value) if name == "model" else value
            for name, value in dataclasses.asdict(options).items()
            # Beam's flags may hold a bucket's credentials.
            if name not in _NOT_RECORDED
        },
        "versions": doctor.versions(),
    }


def summary(document: dict[str, Any], output: str, seconds: float) -> str:
    """What a person wants to know when a run has ended, in a few lines."""
    lines = [f"{document['listed']} files in {seconds:.1f} s"]
    for status, count in document["statuses"].items():
        lines.append(f"  {count:>9,} {status}")
        for reason, n in document["reasons"].get(status, {}).items():
            lines.append(f"  {n:>18,} {reason}")
    lines.append(f"run {document['run_id']} is complete in {output}")
    return "\n".join(lines)


def broken_limits(document: dict[str, Any], options: ScoringOptions) -> list[str]:
    """What in a finished run's `run.json` breaks a limit that the options set."""
    listed = max(document["listed"], 1)
    errors = document["statuses"]["ERROR"] / listed
    rejected = document["statuses"]["REJECTED"] / listed
    limits = [
        (errors > options.max_error_rate, f"{errors:.1%} ERROR, --max_error_rate"),
        (
            rejected > options.max_reject_rate,
            f"{rejected:.1%} REJECTED, --max_reject_rate",
        ),
        (listed < options.min_inputs, f"{listed} files, --min_inputs"),
    ]
    return [message for is_broken, message in limits if is_broken]
