"""Tables of a data set: how many files of each class have which value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.exploration.concerns import number
from trainer.exploration.shortcuts import numeric, stated
from trainer.exploration.survey import Survey

# Longer ones are in the files beside the page.
_ROWS = 40


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; `left_out` more are in a file."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left_out: int = 0


def crossed(
    seen: Survey,
    header: tuple[str, ...],
    values: Callable[[int], Iterable[tuple[str, ...]]],
) -> Table:
    """How many readable files of each class have which value, with shares."""
    totals: Counter[tuple[str, ...]] = Counter()
    by_class: dict[str, Counter[tuple[str, ...]]] = {n: Counter() for n in seen.classes}
    for row in np.flatnonzero(seen.readable):
        for value in values(int(row)):
            totals[value] += 1
            for name in seen.listing.files[row].labels:
                by_class[name][value] += 1
    sizes = {name: int(seen.of(name).sum()) for name in seen.classes}
    rows = [
        (*value, *(_share(by_class[name][value], sizes[name]) for name in seen.classes))
        for value, _ in totals.most_common()
    ]
    named = [f"{name} (n = {sizes[name]:,})" for name in seen.classes]
    return cut((*header, *named), rows)


def counted(seen: Survey, name: str, values: list[str]) -> Table:
    """`crossed` with a value for each file."""
    return crossed(seen, (name,), lambda row: [(values[row],)])


def _share(count: int, of: int) -> str:
    if not count or not of:
        return "–"
    share = 100 * count / of
    if count < of and not 1 <= share < 99.5:
        return f"{count:,} ({'< 1' if share < 1 else '> 99'} %)"
    return f"{count:,} ({share:.0f} %)"


def cut(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    """The first rows, and how many more there are."""
    return Table(header, list(rows[:_ROWS]), max(0, len(rows) - _ROWS))


def columns(seen: Survey) -> Iterator[Table]:
    """Age, sex, view, … by class: quartiles of numbers, counts of names."""
    for name, values in stated(seen).items():
        numbers = numeric(values)
        if numbers is None:
            yield counted(seen, name, [value or "not known" for value in values])
        else:
            yield quartiles(seen, name, numbers)


def quartiles(seen: Survey, name: str, numbers: NDArray[np.float64]) -> Table:
    """How a number, (files,), is spread in each class."""
    rows = []
    for label in seen.classes:
        values = numbers[seen.of(label)]
        known = values[np.isfinite(values)]
        cells = ["–"] * 5
        if len(known):
            cells = [number(q) for q in np.percentile(known, [0, 25, 50, 75, 100])]
        rows.append((label, *cells, f"{len(values) - len(known):,}"))
    header = (name, "Least", "25 %", "Median", "75 %", "Greatest", "Not known")
    return cut(header, rows)
