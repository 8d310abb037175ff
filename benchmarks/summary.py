"""Runs of several contenders → what a study costs, and the tables of it.

What a study costs is the difference between two archives of different size: start-up
is in both. Contenders are compared within a round, because the machine's speed drifts.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import ttest_1samp

from benchmarks import machine

OURS = "ours"
FLOOR = "floor"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process over one archive.

    Attributes:
        workload: what the archive is made of.
        contender: who ran.
        round: in which round.
        studies: how many files the archive has.
        seconds: of the whole process.
        cpu_seconds: of it and its children.
        peak_bytes: of its memory.
        error: why it does not count; empty where it does.
    """

    workload: str
    contender: str
    round: int
    studies: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    error: str = ""


# Milliseconds of decoding a file, by encoding and decoder, in one round.
Decoding = Mapping[str, Mapping[str, float]]


def report(records: Sequence[Path]) -> str:
    """All tables of what was measured, as Markdown."""
    written = [
        line
        for path in records
        for line in path.read_text("utf-8").splitlines(keepends=True)
    ]
    # The last one may have been cut off with the process that wrote it.
    lines = [json.loads(line) for line in written if line.endswith("\n")]
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        kinds[line.pop("kind")].append(line)
    runs = [Run(**line) for line in kinds["run"]]
    decoded = [line["milliseconds"] for line in kinds["decoding"]]
    return "\n\n".join(_sections(kinds["machine"], runs, decoded))


def _sections(
    machines: Sequence[dict[str, str]],
    runs: Sequence[Run],
    decoded: Sequence[Decoding],
) -> Iterator[str]:
    yield "\n".join(dict.fromkeys(machine.sentence(each) for each in machines))
    for name in dict.fromkeys(run.workload for run in runs):
        of_it = [run for run in runs if run.workload == name]
        sizes = sorted({run.studies for run in of_it})
        rounds = len({run.round for run in of_it})
        span = " to ".join(f"{size:,}" for size in (sizes[0], sizes[-1]))
        yield f"### {name}: {span} studies, {rounds} rounds, median (range)"
        yield cost_table(of_it)
        yield process_table(of_it)
        if len(sizes) > 2:
            yield rise_table(of_it)
    if decoded:
        yield f"### Decoding alone: ms a file, {len(decoded)} rounds, median (range)"
        yield decoding_table(decoded)
    if failed := failures(runs):
        yield "Did not count:\n\n" + "\n".join(f"- {line}" for line in failed)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, and the lowest and the highest where there are several."""
    if not values:
        return "–"
    median = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def costs(runs: Iterable[Run], contender: str) -> dict[int, float]:
    """Seconds a study by round, from the smallest archive to the largest.

    A round in which one of the two failed or is missing has no cost.
    """
    seconds = {
        (run.round, run.studies): run.seconds
        for run in runs
        if run.contender == contender and not run.error
    }
    sizes = {studies for _, studies in seconds}
    if len(sizes) < 2:
        return {}
    small, large = min(sizes), max(sizes)
    return {
        number: (seconds[number, large] - seconds[number, small]) / (large - small)
        for number, size in sorted(seconds)
        if size == large and (number, small) in seconds
    }


def rises(
    runs: Iterable[Run], contender: str, cost: Callable[[Run], float]
) -> dict[int, float]:
    """By how much a study costs more in the largest archives, by round.

    What a study costs from the last but one size to the largest, over what it costs
    from the smallest to the second, less 1: zero where it does not matter how many
    there are. A round that lacks one of these archives has none.
    """
    found: dict[int, dict[int, float]] = defaultdict(dict)
    sizes = set()
    for run in runs:
        if run.contender == contender and not run.error:
            found[run.round][run.studies] = cost(run)
            sizes.add(run.studies)
    if len(sizes) < 3:
        return {}
    first, second, *_ = ordered = sorted(sizes)
    last_but_one, last = ordered[-2:]
    rise = {}
    for number, taken in sorted(found.items()):
        if {first, second, last_but_one, last} <= taken.keys():
            late = (taken[last] - taken[last_but_one]) / (last - last_but_one)
            early = (taken[second] - taken[first]) / (second - first)
            rise[number] = late / early - 1
    return rise


def ratios(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """One cost over another, for every round that has both."""
    common = sorted(one.keys() & other.keys())
    return [one[number] / other[number] for number in common if other[number] > 0]


def cost_table(runs: Sequence[Run]) -> str:
    """A study without start-up: one row for each contender, as Markdown."""
    ours, floor = costs(runs, OURS), costs(runs, FLOOR)
    rows = []
    for name in contenders(runs):
        found = costs(runs, name)
        each = list(found.values())
        rate = 1 / statistics.median(each) if each and min(each) > 0 else None
        rows.append(
            (
                name,
                spread([1000 * cost for cost in each]),
                "–" if rate is None else f"{rate:.1f}",
                spread(ratios(found, floor), 2),
                spread(ratios(found, ours), 2),
            )
        )
    heads = ("", "ms a study", "studies/s", "× the floor", "× ours")
    return table(heads, rows)


def process_table(runs: Sequence[Run]) -> str:
    """Whole processes, start-up included: seconds and memory, as Markdown."""
    sizes = sorted({run.studies for run in runs})
    heads = [""]
    heads += [f"s for {size:,} studies" for size in sizes]
    heads += [f"CPU s for {size:,}" for size in sizes]
    heads += [f"peak MB at {size:,}" for size in sizes]
    fields: list[tuple[Callable[[Run], float], int]] = [
        (lambda run: run.seconds, 1),
        (lambda run: run.cpu_seconds, 1),
        (lambda run: run.peak_bytes / 1e6, 0),
    ]
    rows = []
    for name in contenders(runs):
        row = [name]
        for field, digits in fields:
            row += [
                spread([field(run) for run in _counting(runs, name, size)], digits)
                for size in sizes
            ]
        rows.append(row)
    return table(heads, rows)


def rise_table(runs: Sequence[Run]) -> str:
    """By how many percent a study costs more in the largest archives, as Markdown.

    The mean over the rounds with its 95 % interval, Student's t.
    """
    heads = ("", "time, % more a study in the largest", "CPU time")
    fields: list[Callable[[Run], float]] = [
        lambda run: run.seconds,
        lambda run: run.cpu_seconds,
    ]
    rows = []
    for name in contenders(runs):
        row = [name]
        row += [_mean([*rises(runs, name, field).values()]) for field in fields]
        rows.append(row)
    return table(heads, rows)


def _mean(shares: Sequence[float]) -> str:
    """Mean and 95 % interval, in percent; one value alone has no interval."""
    if not shares:
        return "–"
    mean = f"{100 * statistics.mean(shares):.1f}"
    if len(shares) == 1:
        return mean
    interval = ttest_1samp(shares, 0).confidence_interval(0.95)
    return f"{mean} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def decoding_table(rounds: Sequence[Decoding]) -> str:
    """Decoding alone: one row for each encoding, as Markdown; ms a file."""
    encodings = dict.fromkeys(name for each in rounds for name in each)
    decoders = dict.fromkeys(
        decoder for each in rounds for found in each.values() for decoder in found
    )
    rows = [
        (
            encoding,
            *(
                spread(
                    [
                        each[encoding][decoder]
                        for each in rounds
                        if decoder in each.get(encoding, {})
                    ],
                    0,
                )
                for decoder in decoders
            ),
        )
        for encoding in encodings
    ]
    return table(("", *decoders), rows)


def failures(runs: Sequence[Run]) -> list[str]:
    """What did not count, a line each."""
    return [
        f"{run.workload}, {run.contender}, {run.studies} studies, round {run.round}: "
        f"{run.error}"
        for run in runs
        if run.error
    ]


def contenders(runs: Iterable[Run]) -> list[str]:
    """Their names, in the order in which they first ran in a first round."""
    return list(dict.fromkeys(run.contender for run in runs))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counting(runs: Iterable[Run], contender: str, studies: int) -> list[Run]:
    return [
        run
        for run in runs
        if run.contender == contender and run.studies == studies and not run.error
    ]
