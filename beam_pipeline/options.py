"""Every flag of `score`, its default, its help and its check, once.

Importing this costs nothing, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from beam_pipeline import dates, flag_values
from beam_pipeline.limits import Limits
from beam_pipeline.manifest import DEFAULT_MODEL

_LIMITS = {
    "file_bytes": "bytes",
    "pixels": "rows × columns",
    "inflated_bytes": "bytes once inflated",
    "seconds": "seconds to read and decode",
    "memory_bytes": "bytes of memory to decode",
}
_COMPARED = {
    "changed_decisions": "the files with a score in both is decided otherwise",
    "status_changes": "the files in both has another status",
}
# Paths that may be another every day.
_DATED = ("input", "input_manifest", "output", "metadata")


class UsageError(ValueError):
    """An argument that cannot be used: which, and what to give instead."""


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """What `score` was asked for.

    Attributes:
        input: patterns and folders.
        input_manifest: tables of files.
        output: folder or bucket prefix of all runs.
        date: what `{date}` in paths stood for.
        model: model directory, or the URI of one.
        allow_unblessed: whether a model may score that its manifest does not bless.
        operating_point: name of the thresholds, or None.
        threshold: instead of an operating point, or None.
        calibration: a site's own temperature and thresholds, or None for the model's.
        run_id: names this run.
        rescore: whether to score again what an earlier run scored.
        settle_seconds: how long a file must not have changed.
        keep_runs: how many finished runs stay, or None for all.
        batch_size: images that the model sees at once, or None for what suits the
            device.
        read_workers: processes that read, or None for one a core.
        metadata: table of what files without a header do not say, or None.
        path_pattern: expression that finds the same in their paths, or None.
        eligibility: rules file instead of the default one, or None.
        no_eligibility: whether to score whatever can be decoded.
        pseudonym_key_file: key that patients' keys are made with, or None.
        deidentify: whether UIDs and paths are replaced as well.
        limits: what one file may cost.
        max_error_rate: share of ERROR rows above which the exit code is 3.
        max_reject_rate: share of REJECTED rows above which the exit code is 3.
        min_inputs: files listed below which the exit code is 3.
        metrics_file: where metrics for node_exporter are written, or None.
        beam: flags that are Beam's, and those after `--`, unchanged.
    """

    input: tuple[str, ...]
    input_manifest: tuple[str, ...]
    output: str
    date: str
    model: str
    allow_unblessed: bool
    operating_point: str | None
    threshold: float | None
    calibration: str | None
    run_id: str
    rescore: bool
    settle_seconds: float
    keep_runs: int | None
    batch_size: int | None
    read_workers: int | None
    metadata: str | None
    path_pattern: str | None
    eligibility: str | None
    no_eligibility: bool
    pseudonym_key_file: str | None
    deidentify: bool
    limits: Limits
    max_error_rate: float
    max_reject_rate: float
    min_inputs: int
    metrics_file: Path | None
    beam: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `score`."""
    add = parser.add_argument
    add(
        "--input",
        action="append",
        default=[],
        metavar="PATTERN",
        help="files to score: a folder, or a pattern such as 'export/**' (* stays in a "
        "folder, ** does not), also in a bucket; may be repeated",
    )
    add(
        "--input_manifest",
        action="append",
        default=[],
        metavar="FILE",
        help="TXT, CSV or Parquet that names the files to score, instead of listing "
        "them; may be repeated",
    )
    add(
        "--output",
        type=flag_values.folder,
        required=True,
        metavar="DIR",
        help="where runs are written",
    )
    add(
        "--date",
        type=flag_values.day,
        default="yesterday",
        metavar="DAY",
        help="what {date} or, say, {date:%%Y/%%m/%%d} in paths stands for: 2026-11-20, "
        "today or yesterday, of this machine's time zone (default: %(default)s)",
    )
    add_model(parser)
    add(
        "--allow_unblessed",
        action="store_true",
        help="score also with a model that its manifest does not bless",
    )
    thresholds = parser.add_mutually_exclusive_group()
    thresholds.add_argument(
        "--operating_point",
        metavar="NAME",
        help="which of the model's thresholds decides (default: default)",
    )
    thresholds.add_argument(
        "--threshold",
        type=flag_values.share,
        metavar="X",
        help="a threshold of your own, from 0 to 1: positive is score >= X",
    )
    add(
        "--calibration",
        metavar="FILE",
        help="your site's temperature and thresholds, as `python -m trainer calibrate` "
        "leaves them (default: the model's)",
    )
    add(
        "--run_id",
        type=flag_values.run_id,
        default=datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ"),
        metavar="ID",
        help="name of the run (default: the time, UTC)",
    )
    _add_nights(parser)
    add(
        "--batch_size",
        type=flag_values.positive,
        metavar="N",
        help="images the model sees at once (default: 32; on a GPU what it is found to "
        "be fastest with)",
    )
    add(
        "--read_workers",
        type=flag_values.positive,
        metavar="N",
        help="processes that read and decode (default: one a core)",
    )
    _add_knowledge(parser)
    _add_privacy(parser)
    for name, what in _LIMITS.items():
        default = getattr(Limits(), name)
        add(
            f"--max_{name}",
            type=flag_values.positive
            if isinstance(default, int)
            else flag_values.duration,
            default=default,
            metavar="N",
            help=f"most {what} of one file (default: %(default)s)",
        )
    add(
        "--max_error_rate",
        type=flag_values.share,
        default=0.5,
        metavar="X",
        help="exit with 3 when a larger share of files is ERROR (default: %(default)s)",
    )
    add(
        "--max_reject_rate",
        type=flag_values.share,
        default=1.0,
        metavar="X",
        help="exit with 3 when a larger share is REJECTED (default: %(default)s)",
    )
    add(
        "--min_inputs",
        type=flag_values.positive,
        default=1,
        metavar="N",
        help="exit with 3 when fewer files are found (default: %(default)s)",
    )
    add_metrics_file(parser)


def add_metrics_file(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flag that names a metrics file."""
    parser.add_argument(
        "--metrics_file",
        type=flag_values.metrics_file,
        metavar="FILE",
        help="write how the run ended to FILE.prom, for node_exporter's textfile "
        "collector",
    )


def _add_nights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rescore",
        action="store_true",
        help="score also what an earlier run under --output has scored",
    )
    parser.add_argument(
        "--settle_seconds",
        type=flag_values.seconds,
        default=0.0,
        metavar="N",
        help="leave files that changed less than N seconds ago to the next run, as "
        "ERROR STILL_CHANGING (default: %(default)s)",
    )
    parser.add_argument(
        "--keep_runs",
        type=flag_values.positive,
        metavar="N",
        help="delete older finished runs than the newest N, after a complete one "
        "(default: keep all)",
    )


def _add_knowledge(parser: argparse.ArgumentParser) -> None:
    sidecar = parser.add_mutually_exclusive_group()
    sidecar.add_argument(
        "--metadata",
        metavar="FILE",
        help="CSV or Parquet with UIDs, view, age of PNG and JPEG files, by their path",
    )
    sidecar.add_argument(
        "--path_pattern",
        metavar="REGEX",
        help="an expression that finds them in the path, in groups such as "
        "(?P<study_instance_uid>[0-9.]+)",
    )
    rules = parser.add_mutually_exclusive_group()
    add_eligibility(rules)
    rules.add_argument(
        "--no_eligibility",
        action="store_true",
        help="score whatever can be decoded",
    )


def add_eligibility(parser: argparse._ActionsContainer) -> None:
    """Give `parser` the flag that names a rules file."""
    parser.add_argument(
        "--eligibility",
        metavar="FILE",
        help="your rules of what may be scored (default: the model's)",
    )


def _add_privacy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pseudonym_key_file",
        metavar="FILE",
        help="a secret of 32 bytes or more: gives rows a patient_key and accession_key",
    )
    parser.add_argument(
        "--deidentify",
        action="store_true",
        help="with it: replace UIDs and paths in rows as well",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flag that names a model."""
    parser.add_argument(
        "--model",
        default=str(DEFAULT_MODEL),
        metavar="DIR",
        help="model directory, also in a bucket (default: the model in the box)",
    )


def add_comparing(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the arguments of `compare`."""
    add = parser.add_argument
    add(
        "a",
        type=flag_values.folder,
        metavar="RUN_A",
        help="the reference: OUTPUT/runs/ID; OUTPUT for the newest run that finished "
        "there, OUTPUT~1 for the one before it",
    )
    add("b", type=flag_values.folder, metavar="RUN_B", help="the other, likewise")
    add("--json", metavar="FILE", help="write every figure there, for machines")
    add(
        "--rows",
        metavar="FILE",
        help="write the rows whose status or decision changed there, as Parquet",
    )
    add(
        "--movers",
        type=flag_values.positive,
        default=10,
        metavar="N",
        help="how many of the largest differences to name (default: %(default)s)",
    )
    for name, what in _COMPARED.items():
        add(
            f"--max_{name}",
            type=flag_values.share,
            default=1.0,
            metavar="X",
            help=f"exit with 1 when a larger share of {what} (default: %(default)s)",
        )


def metrics_file(argv: Sequence[str]) -> Path | None:
    """The metrics file among flags that could not be parsed."""
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False
    )
    add_metrics_file(parser)
    try:
        found: Path | None = parser.parse_known_args(argv)[0].metrics_file
    except argparse.ArgumentError:
        return None
    return found


def fill_dates(arguments: argparse.Namespace) -> None:
    """Put the day into the paths in parsed `arguments` that have a place for it.

    Raises:
        ValueError: braces in a path that are none for a day.
    """
    day = date.fromisoformat(arguments.date)
    for name in _DATED:
        value = getattr(arguments, name, None)
        if isinstance(value, list):
            setattr(arguments, name, [dates.fill(each, day) for each in value])
        elif value is not None:
            setattr(arguments, name, dates.fill(value, day))


def scoring_options(
    arguments: argparse.Namespace, beam_flags: Sequence[str]
) -> ScoringOptions:
    """The options in parsed `arguments`."""
    given = {
        name: getattr(arguments, name)
        for name in ScoringOptions.__dataclass_fields__
        if name not in ("beam", "limits")
    }
    given["limits"] = Limits(
        **{name: getattr(arguments, f"max_{name}") for name in _LIMITS}
    )
    given["input"] = tuple(arguments.input)
    given["input_manifest"] = tuple(arguments.input_manifest)
    if not given["input"] + given["input_manifest"]:
        raise UsageError(
            "nothing to score: give --input, --input_manifest, or both of them"
        )
    if arguments.deidentify and arguments.pseudonym_key_file is None:
        raise UsageError(
            "--deidentify needs --pseudonym_key_file: a secret to hash with"
        )
    return ScoringOptions(**given, beam=tuple(beam_flags))


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags before a lone `--`, which are checked, and those after it."""
    if "--" not in argv:
        return list(argv), []
    position = list(argv).index("--")
    return list(argv[:position]), list(argv[position + 1 :])


def refuse_unknown(flags: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a flag that is not known, and name the nearest one that is.

    Raises:
        UsageError: for the first of `flags` that is none of `known`.
    """
    names = sorted(known)
    takes_value = False
    for flag in flags:
        if not flag.startswith("-") and not takes_value:
            raise UsageError(
                f"{flag!r} stands alone; put a pattern into quotes, so that the shell "
                "leaves it as it is, or repeat --input"
            )
        takes_value = flag.startswith("--") and "=" not in flag
        name = flag.split("=", 1)[0]
        if name.startswith("-") and not _is_number(name) and name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            hint = f"; the nearest flag is {nearest[0]}" if nearest else ""
            raise UsageError(f"unknown flag {name}{hint}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
