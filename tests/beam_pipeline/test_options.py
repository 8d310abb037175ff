from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from beam_pipeline import options
from beam_pipeline.limits import Limits
from beam_pipeline.manifest import DEFAULT_MODEL
from beam_pipeline.options import UsageError


def parse(*argv: str) -> options.ScoringOptions:
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    return options.scoring_options(parser.parse_args(argv), ())


def test_every_flag_has_help_and_a_place_in_the_options() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    options.add_arguments(parser)
    names = {action.dest for action in parser._actions}
    limits = {f"max_{name}" for name in Limits.__dataclass_fields__}
    fields = set(options.ScoringOptions.__dataclass_fields__) - {"beam", "limits"}
    assert names == fields | limits
    assert all(action.help for action in parser._actions)


def test_the_day_stands_in_every_path_that_may_be_another_every_day() -> None:
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    argv = ["--input=/a/{date}", "--input=/b/{date:%d.%m.}/**", "--date=2026-03-07"]
    argv += ["--output=/out/{date:%Y}", "--metadata=/m/{date}.csv"]
    arguments = parser.parse_args(argv)
    options.fill_dates(arguments)
    found = options.scoring_options(arguments, ())
    assert found.input == ("/a/2026-03-07", "/b/07.03./**")
    assert (found.output, found.metadata) == ("/out/2026", "/m/2026-03-07.csv")
    assert found.date == "2026-03-07"


def test_the_output_is_named_from_the_root() -> None:
    assert parse("--input=a", "--output=b").output == str(Path("b").absolute())
    assert parse("--input=a", "--output=s3://b/c").output == "s3://b/c"


def test_inputs_add_up_and_a_run_has_a_name() -> None:
    found = parse("--input", "a", "--input", "b", "--output", "c")
    assert found.input == ("a", "b")
    assert found.run_id
    assert found.model == str(DEFAULT_MODEL)


@pytest.mark.parametrize(
    "argv",
    [
        ("--threshold", "1.5"),
        ("--threshold", "high"),
        ("--threshold", "0.5", "--operating_point", "screening"),
        ("--batch_size", "0"),
        ("--max_error_rate", "-0.1"),
        ("--run_id", "../elsewhere"),
        ("--run_id", ""),
        ("--output", ""),
        ("--max_seconds", "0"),
        ("--max_seconds", "-1"),
        ("--max_seconds", "nan"),
        ("--max_seconds", "inf"),
        ("--max_pixels", "0"),
        ("--max_file_bytes", "-5"),
        ("--metadata", "a.csv", "--path_pattern", "(?P<view_position>PA)"),
        ("--eligibility", "rules.toml", "--no_eligibility"),
        ("--date", "20 March"),
        ("--metrics_file", "a.txt"),
        ("--metrics_file", "no/such/folder/a.prom"),
    ],
    ids=" ".join,
)
def test_a_value_that_makes_no_sense_is_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--input", "a", "--output", "b", *argv)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("argv", "split"),
    [
        (["--a", "--", "--b", "1"], (["--a"], ["--b", "1"])),
        (["--a"], (["--a"], [])),
        (["--", "--b", "--"], ([], ["--b", "--"])),
    ],
    ids=str,
)
def test_what_follows_a_double_dash_is_set_apart(argv: list, split: tuple) -> None:
    assert options.split(argv) == split


def test_an_unknown_flag_names_the_nearest() -> None:
    known = ["--input", "--output", "--runner"]
    with pytest.raises(UsageError, match=r"--inptu; the nearest flag is --input"):
        options.refuse_unknown(["--inptu=x"], known)
    with pytest.raises(UsageError, match=r"unknown flag --zzzzzzzz$"):
        options.refuse_unknown(["--zzzzzzzz"], known)
    options.refuse_unknown(["--runner", "FlinkRunner", "--output=-1", "-0.5"], known)


def test_a_pattern_that_the_shell_expanded_is_refused() -> None:
    with pytest.raises(UsageError, match="into quotes"):
        options.refuse_unknown(["b.dcm", "c.dcm"], ["--input"])
