"""What it takes from the command to its answer: help, a mistyped flag, the first score.

    python -m benchmarks.startup
    python -m benchmarks.startup --rounds 9

The run is over a folder of ten files: six radiographs of full size without compression,
and a hand, a report, a text and an empty file. The first score is there when the first
row was decided, by the clock that rows have as `scored_at`. Medians, with the least and
the most: seconds on the clock, which mean something on an idle machine alone, and of
the processors. The first of all runs is left out, because it reads from the disk.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks import nights, rejected, watched

_SHAPE = (3000, 2500)
_RADIOGRAPHS = 6
# The places among the kinds of benchmarks/rejected.py.
_HAND, _REPORT = 0, 5


@dataclass(frozen=True)
class Taken:
    """Of one command: seconds on the clock, and of the processors where they count."""

    seconds: float
    cpu_seconds: float | None = None


def main() -> None:
    """Measure every command in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "in")
        found = [measured(Path(folder), number) for number in range(rounds + 1)][1:]
    print("| | seconds | of the processors |\n|---|---|---|")
    for name in found[0]:
        taken = [each[name] for each in found]
        cpu = [t.cpu_seconds for t in taken if t.cpu_seconds is not None]
        print(f"| {name} | {spread([t.seconds for t in taken])} | {spread(cpu)} |")


def measured(folder: Path, number: int) -> dict[str, Taken]:
    """Every command once."""
    arguments = [f"--input={folder / 'in'}", f"--output={folder / 'out'}"]
    run_id = f"run-{number}"
    helped = command("--help")
    refused = command("score", *arguments, "--inptu=x", code=2)
    began = time.time()
    whole = command(
        "score", *arguments, "--allow_unblessed", "--rescore", f"--run_id={run_id}"
    )
    first = first_score(folder / "out" / "instances" / f"run={run_id}") - began
    return {
        "`--help`": helped,
        "a mistyped flag": refused,
        "the first score": Taken(first),
        "a whole run over ten files": whole,
    }


def command(*arguments: str, code: int = 0) -> Taken:
    """One command, which has to end with that exit code."""
    finished = watched.run(*arguments)
    assert finished.returncode == code, finished.printed
    return Taken(finished.seconds, finished.cpu_seconds)


def first_score(table: Path) -> float:
    """When the first row of a run was decided, in seconds since 1970."""
    times = pq.read_table(table, columns=["scored_at"])["scored_at"].drop_null()
    assert len(times) == _RADIOGRAPHS
    return float(min(each.timestamp() for each in times.to_pylist()))


def spread(values: list[float]) -> str:
    """The median, and the least and the most in brackets."""
    if not values:
        return ""
    middle = statistics.median(values)
    return f"{middle:.2f} ({min(values):.2f}–{max(values):.2f})"


def build(folder: Path) -> None:
    """Write the ten files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    shade = np.linspace(500, 3000, _SHAPE[1])
    for number in range(_RADIOGRAPHS):
        pixels = (shade + random.integers(0, 512, _SHAPE)).astype(np.uint16)
        nights.write(folder / f"{number}.dcm", pixels, number)
    kinds = rejected.headers()
    (folder / "hand.dcm").write_bytes(kinds[_HAND])
    (folder / "report.dcm").write_bytes(kinds[_REPORT])
    (folder / "notes.txt").write_text("no radiograph\n" * 40)
    (folder / "empty.dcm").touch()


if __name__ == "__main__":
    main()
