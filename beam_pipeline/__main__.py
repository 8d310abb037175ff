"""python -m beam_pipeline: score radiographs, compare runs, look at files, machines."""

from __future__ import annotations

import argparse
import atexit
import gc
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beam_pipeline import options
from beam_pipeline.beam_flags import beam_flags
from beam_pipeline.ending import (
    Ending,
    ExitCode,
    NothingMatched,
    Stopped,
    line,
    stoppable,
)
from beam_pipeline.options import ScoringOptions
from beam_pipeline.uncollected import uncollected

_LOGGER = logging.getLogger("beam_pipeline")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit code, as the README lists them."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in (None, "apache_beam.utils.retry"):
        logging.getLogger(chatty).addFilter(_is_news)
    argv = sys.argv[1:] if argv is None else argv
    checked, unchecked = options.split(argv)
    try:
        arguments, leftover = _parser().parse_known_args(checked)
    except SystemExit as ended:
        if ended.code and "score" in checked[:1]:
            _report(Ending(exit_code=ExitCode.REFUSED), options.metrics_file(checked))
        raise
    try:
        code: int = arguments.run(arguments, leftover, unchecked)
    # What was asked for cannot be done: said before anything was read.
    except ValueError as error:
        return _say(error, ExitCode.REFUSED)
    return code


def _score(
    arguments: argparse.Namespace, leftover: list[str], unchecked: list[str]
) -> int:
    clock = time.monotonic()
    code, record = _run(arguments, leftover, unchecked)
    ending = Ending(
        exit_code=code,
        run_id=arguments.run_id,
        seconds=time.monotonic() - clock,
        output=None if arguments.deidentify else arguments.output,
        record=record,
    )
    _report(ending, arguments.metrics_file)
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        # The runner's threads would go on until their files are scored.
        os._exit(code)
    return code


def _run(
    arguments: argparse.Namespace, leftover: list[str], unchecked: list[str]
) -> tuple[ExitCode, dict[str, Any]]:
    """How it ended, and what `run.json` says, as far as it is known."""
    has_begun = False
    try:
        with stoppable():
            asked = _asked(arguments, leftover, unchecked)
            # At the end a second goes into a last look for garbage that nobody needs.
            atexit.register(gc.freeze)
            # Here, so that --help and a mistyped flag are answered without Beam.
            with uncollected():
                from beam_pipeline import lease, score

            job = score.prepare(asked)
            with lease.held(job.run):
                has_begun = True
                record = score.run(job)
    except Stopped as stopped:
        # While TensorFlow is loaded, what is said on stderr is held back.
        print(f"{stopped}: run {arguments.run_id} is not complete")
        return stopped.exit_code, {}
    except NothingMatched as error:
        return _say(error, ExitCode.NOTHING_MATCHED), {"listed": 0}
    # Whatever the runner raises: the scheduler learns of it by the exit code.
    except Exception as error:
        if not has_begun and isinstance(error, ValueError):
            return _say(error, ExitCode.REFUSED), {}
        _LOGGER.exception("The run failed; nothing was marked complete")
        return ExitCode.FAILED, {}
    broken = record["broken_limits"]
    return ExitCode.LIMIT_BROKEN if broken else ExitCode.COMPLETE, record


def _asked(
    arguments: argparse.Namespace, leftover: list[str], unchecked: list[str]
) -> ScoringOptions:
    options.refuse_unknown(leftover, {*arguments.flags, *beam_flags()})
    options.fill_dates(arguments)
    return options.scoring_options(arguments, [*leftover, *unchecked])


def _report(ending: Ending, metrics_file: Path | None) -> None:
    """Tell the log, and who watches the machine."""
    print(line(ending), flush=True)
    if metrics_file is not None:
        from beam_pipeline import metrics_file as metrics

        metrics.write(metrics_file, ending)


def _inspect(
    arguments: argparse.Namespace, leftover: list[str], unchecked: list[str]
) -> int:
    from beam_pipeline import inspect, staging

    options.refuse_unknown(leftover + unchecked, arguments.flags)
    rules = arguments.eligibility and staging.file(arguments.eligibility)
    model_dir = staging.model(arguments.model)
    well = inspect.run(arguments.file, model_dir, rules, arguments.save_input)
    return ExitCode.COMPLETE if well else ExitCode.FAILED


def _doctor(
    arguments: argparse.Namespace, leftover: list[str], unchecked: list[str]
) -> int:
    from beam_pipeline import doctor

    options.refuse_unknown(leftover + unchecked, arguments.flags)
    well = doctor.run(arguments.model, arguments.output)
    return ExitCode.COMPLETE if well else ExitCode.FAILED


def _compare(
    arguments: argparse.Namespace, leftover: list[str], unchecked: list[str]
) -> int:
    options.refuse_unknown(leftover, {*arguments.flags, *beam_flags()})
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam_pipeline import compare

    FileSystems.set_options(PipelineOptions([*leftover, *unchecked]))
    asked = {name: getattr(arguments, name) for name in compare.REQUESTED}
    broken = compare.run(compare.Request(**asked))
    return ExitCode.FAILED if broken else ExitCode.COMPLETE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipeline", description=__doc__, allow_abbrev=False
    )
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")

    score = subcommands.add_parser(
        "score",
        help="score every file that matches, into Parquet",
        description="Score every file that matches, into Parquet. Any flag of Apache "
        "Beam's Python SDK is understood too; what follows a lone -- is passed on "
        "unchecked.",
        allow_abbrev=False,
    )
    options.add_arguments(score)
    score.set_defaults(run=_score)

    inspect = subcommands.add_parser(
        "inspect",
        help="what would happen to these files, and why",
        description="Say what the job would do with each file, rule by rule and step "
        "by step. Exits with 1 where one of them would not be scored.",
        allow_abbrev=False,
    )
    inspect.add_argument("file", nargs="+", type=Path, metavar="FILE")
    options.add_model(inspect)
    options.add_eligibility(inspect)
    inspect.add_argument(
        "--save_input",
        type=Path,
        metavar="DIR",
        help="write what the model would see as DIR/NUMBER-NAME.png",
    )
    inspect.set_defaults(run=_inspect)

    doctor = subcommands.add_parser(
        "doctor",
        help="is this machine ready?",
        description="Say which transfer syntaxes can be decoded, which device "
        "TensorFlow sees, whether the model is whole and the output writable. Exits "
        "with 1 where something is missing.",
        allow_abbrev=False,
    )
    options.add_model(doctor)
    doctor.add_argument("--output", metavar="DIR", help="try to write there")
    doctor.set_defaults(run=_doctor)

    compare = subcommands.add_parser(
        "compare",
        help="what differs between two finished runs, and how much?",
        description="Compare run B with run A: a new model beside the old one, or "
        "tonight with last night. Exits with 1 where a limit is broken, with 2 where "
        "a run has not finished. Flags of Apache Beam's Python SDK that open buckets "
        "are understood too.",
        allow_abbrev=False,
    )
    options.add_comparing(compare)
    compare.set_defaults(run=_compare)

    for each in (score, inspect, doctor, compare):
        each.set_defaults(flags=frozenset(each._option_string_actions))
    return parser


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line is one that a user can act on.

    Beam complains of packages that it can use and that the job does not need, and shows
    a traceback each time that it looks for Google credentials and finds none. That it
    goes on without any, it says afterwards in one line.
    """
    message = record.getMessage()
    unneeded = message.startswith(("apitools not found", "Resource module is not"))
    return not unneeded and "retrying _get_credentials" not in message


def _say(error: Exception, code: ExitCode) -> ExitCode:
    print(f"beam_pipeline: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
