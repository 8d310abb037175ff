"""The subcommand `score`: check everything first, run the job, say how it went."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline import (
    doctor,
    input_manifest,
    manifest,
    match,
    memory,
    metadata,
    pipeline,
    retention,
    runner,
    runs,
    staging,
    storage,
    summary,
)
from beam_pipeline.decide import Policy
from beam_pipeline.ending import NothingMatched
from beam_pipeline.images import rules
from beam_pipeline.images.eligibility import Rules
from beam_pipeline.known import files_of
from beam_pipeline.match import Match
from beam_pipeline.metadata import PathPattern
from beam_pipeline.options import ScoringOptions, UsageError
from beam_pipeline.pipeline import ScoreRadiographs
from beam_pipeline.progress import Progress
from beam_pipeline.pseudonyms import Pseudonyms
from beam_pipeline.runs import Run
from beam_pipeline.storage import Fault, Settings

_LOGGER = logging.getLogger(__name__)

# Beam's flags may hold a bucket's credentials.
_NOT_RECORDED = ("beam",)
# Paths may hold a patient's name.
_PATHS = (
    "input",
    "input_manifest",
    "output",
    "model",
    "metadata",
    "path_pattern",
    "calibration",
    "eligibility",
    "pseudonym_key_file",
    "metrics_file",
)


@dataclass(frozen=True)
class Job:
    """A run that may begin: everything that can be refused beforehand was checked."""

    options: ScoringOptions
    beam_options: PipelineOptions
    match: Match
    score: ScoreRadiographs
    run: Run


def prepare(options: ScoringOptions) -> Job:
    """Check the model, the inputs and the output, in this order; read no study.

    Raises:
        ValueError: what cannot be used, and what to give instead.
        NothingMatched: no file to score.
    """
    beam_options = PipelineOptions(list(options.beam))
    runner.check(options, beam_options)
    FileSystems.set_options(beam_options)
    reached = Settings.of(
        beam_options.get_all_options(drop_default=True),
        (*options.input, *options.input_manifest),
    )
    storage.prepare(reached)
    score = ScoreRadiographs(
        model_dir=options.model,
        operating_point=options.operating_point,
        threshold=options.threshold,
        calibration=options.calibration,
        allow_unblessed=options.allow_unblessed,
        batch_size=options.batch_size,
        read_workers=options.read_workers,
        run_id=options.run_id,
        rules=_rules(options, reached),
        limits=options.limits,
        pseudonyms=_pseudonyms(options, reached),
        settle_seconds=options.settle_seconds,
        storage=reached,
    )
    table = options.metadata and storage.absolute(options.metadata)
    if table:
        metadata.check(table)
    paths = PathPattern(options.path_pattern) if options.path_pattern else None
    files = Match(
        patterns=tuple(_normalised(each, reached) for each in options.input),
        metadata=table,
        path_pattern=paths,
        pseudonyms=score.pseudonyms,
        manifests=tuple(map(storage.absolute, options.input_manifest)),
        storage=reached,
    )
    run = Run(
        output=storage.absolute(options.output),
        run_id=options.run_id,
        started=datetime.now(UTC).isoformat(),
        basis=score.policy.basis,
        inputs=_inputs(files),
        about=_about(options, score.policy),
        is_detached=runner.template(beam_options) is not None,
    )
    _check_inputs(files, reached)
    _check_output(run, files.patterns)
    return Job(options, beam_options, files, score, run)


def _rules(options: ScoringOptions, reached: Settings) -> Rules:
    if options.no_eligibility:
        return Rules(())
    own = options.eligibility and staging.file(options.eligibility, reached)
    return rules.compiled(
        manifest.load(staging.model(options.model, reached)), own or None
    )


def _pseudonyms(options: ScoringOptions, reached: Settings) -> Pseudonyms | None:
    if options.pseudonym_key_file is None:
        return None
    path = storage.absolute(options.pseudonym_key_file)
    return Pseudonyms(path, options.deidentify, reached)


def run(job: Job) -> dict[str, Any]:
    """Run the job and print its summary; what its `run.json` says.

    Who runs it holds the output.
    """
    memory.keep_little()
    retention.clean(job.run)
    known = files_of(job.run, rescore=job.options.rescore)
    runs.begin(job.run)
    with (
        Progress(),
        beam.Pipeline(runner.of(job.beam_options), job.beam_options) as running,
    ):
        pipeline.build(running, job.match, job.score, job.run, known)
    if template := runner.template(job.beam_options):
        print(f"The job is described in {template}; nothing has run yet")
        return {"broken_limits": []}
    _warn_of_metadata(running.result)
    with FileSystems.open(job.run.record("run.json")) as stream:
        document: dict[str, Any] = json.loads(stream.read())
    _tidy(job)
    print(summary.text(document, job.run.output))
    for broken in document["broken_limits"]:
        _LOGGER.error(
            "Limit broken: --%(limit)s is %(allowed)g, and it is %(found).3g", broken
        )
    return document


def _tidy(job: Job) -> None:
    """Delete what is no longer needed; the run is complete, whatever comes of it."""
    try:
        retention.close(job.run)
        if job.options.keep_runs is not None:
            retention.retire(job.run, job.options.keep_runs)
    except (OSError, BeamIOError) as error:
        _LOGGER.warning(
            "What earlier runs left could not be deleted (%s)", type(error).__name__
        )


_WARNINGS = {
    match.UNMATCHED_METADATA: "--metadata: %d of its paths are of no file that was "
    "listed; paths are relative to the folder of the table",
    match.UNMATCHED_PATH: "--path_pattern: the paths of %d files do not match it",
}


def _warn_of_metadata(result: Any) -> None:
    for name, warning in _WARNINGS.items():
        named = MetricsFilter().with_name(name)
        for counter in result.metrics().query(named)["counters"]:
            # Some runners count what was attempted and no more.
            if counter.result:
                _LOGGER.warning(warning, counter.result)


def _check_output(run: Run, patterns: Sequence[str]) -> None:
    if FileSystems.exists(run.record("_SUCCESS")):
        raise UsageError(
            f"--run_id {run.run_id}: {run.output} has a finished run of that name; "
            "choose another, or leave the flag out"
        )
    for pattern in patterns:
        if storage.covers(pattern, run.instances("part-00000.parquet")):
            raise UsageError(
                f"--output {run.output} lies within --input {pattern}: the next run "
                "would take this one's results for radiographs"
            )
    runs.probe(run.output)


def _check_inputs(files: Match, reached: Settings) -> None:
    empty = [each for each in files.patterns if not _matches(each, reached)]
    empty += [each for each in files.manifests if not input_manifest.check(each)]
    if len(empty) == len(files.patterns) + len(files.manifests):
        raise NothingMatched(f"nothing matches {', '.join(empty)}")
    for each in empty:
        _LOGGER.warning("Nothing matches %s; the other inputs are scored", each)


def _normalised(pattern: str, reached: Settings) -> str:
    try:
        return storage.normalise(pattern, reached)
    except (ValueError, Fault) as error:
        raise _unlisted(pattern, error) from error


def _matches(pattern: str, reached: Settings) -> bool:
    try:
        return storage.matches_any(pattern, reached)
    except (ValueError, Fault) as error:
        raise _unlisted(pattern, error) from error


def _unlisted(pattern: str, error: Exception) -> UsageError:
    return UsageError(f"--input {pattern} cannot be listed: {error}")


def _inputs(files: Match) -> str:
    """What is the same for two runs over the same inputs; a keyed hash of paths."""
    listed = repr(sorted((*files.patterns, *files.manifests)))
    if files.pseudonyms is not None:
        return files.pseudonyms.of_inputs(listed)
    return hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()


def _about(options: ScoringOptions, policy: Policy) -> dict[str, Any]:
    left_out = _NOT_RECORDED + (_PATHS if options.deidentify else ())
    return {
        "model": {
            "name": policy.manifest.name,
            "version": policy.manifest.version,
            "digest": policy.model_digest,
            "blessed": policy.manifest.objection is None,
            "preparation": policy.manifest.preparation.name,
            "operating_point": policy.operating_point,
            "thresholds": policy.thresholds,
        },
        "calibration": _calibration(policy),
        "rules": [
            # What a rule looks for may be a name or an identifier.
            rule.name if options.deidentify else _plain(rule)
            for rule in policy.rules.rules
        ],
        "pseudonyms": policy.pseudonyms
        and {
            "key_id": policy.pseudonyms.key_id,
            "deidentify": policy.pseudonyms.deidentify,
        },
        "options": {
            name: _plain(value)
            for name, value in dataclasses.asdict(options).items()
            if name not in left_out
        },
        "versions": doctor.versions(),
    }


def _calibration(policy: Policy) -> dict[str, Any] | None:
    site = policy.calibration
    if site is None:
        return None
    return {
        "digest": policy.calibration_digest,
        "site": site.site,
        "temperature": site.temperature,
        "images": site.images,
        "patients": site.patients,
        "created": site.created,
    }


def _plain(value: Any) -> Any:
    """`value` as JSON has it, without what a rule does not say."""
    if dataclasses.is_dataclass(value):
        found = dataclasses.asdict(value)  # type: ignore[arg-type]
        return {k: _plain(v) for k, v in found.items() if v not in (None, False)}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v not in (None, False)}
    # JSON has no infinity.
    return str(value) if isinstance(value, Path) or value == math.inf else value
