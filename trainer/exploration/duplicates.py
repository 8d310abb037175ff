"""The same picture more than once: equal files, equal pixels, and nearly equal ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainer.exploration import near_duplicates
from trainer.exploration.survey import Survey

Kind = Literal["file", "picture", "near"]


@dataclass(frozen=True)
class Pair:
    """Two files with the same picture, or nearly.

    Attributes:
        kind: `file` where all bytes are equal, `picture` where the pixels are that a
            model gets, `near` where `near_duplicates` finds them alike.
        first: the row of the file that comes first.
        second: the row of the other.
        distance: bits of the perceptual hashes that differ.
        crosses: what they do not share: some of `split`, `label`, `patient`.
    """

    kind: Kind
    first: int
    second: int
    distance: int
    crosses: tuple[str, ...]


@dataclass(frozen=True)
class Duplicates:
    """Pairs, and for each file who is most like it.

    Attributes:
        pairs: those that cross most first. Of n equal files there are n - 1 pairs, each
            with the first of them; near pairs are of pictures that are not equal.
        same_as: int64, (files,), the first row with the same picture, or -1.
        nearest: int64, (files,), the row of the most similar other picture, or -1.
        distance: int64, (files,), to it, or -1.
    """

    pairs: tuple[Pair, ...]
    same_as: NDArray[np.int64]
    nearest: NDArray[np.int64]
    distance: NDArray[np.int64]

    def of(self, *kinds: Kind) -> list[Pair]:
        """The pairs of these kinds."""
        return [pair for pair in self.pairs if pair.kind in kinds]


def duplicates(survey: Survey) -> Duplicates:
    """All pairs among the readable files."""
    rows = np.flatnonzero(survey.readable)
    files = first_equal([survey.measured[row].digest for row in rows])
    pictures = first_equal([survey.measured[row].picture_digest for row in rows])
    near = near_duplicates.neighbours(near_duplicates.hashes(survey.small[rows]))
    own = np.arange(len(rows))
    copied = np.flatnonzero(files != own)
    redrawn = np.flatnonzero((files == own) & (pictures != own))
    pairs = [_pair(survey, "file", rows[[files[i], i]]) for i in copied]
    pairs += [_pair(survey, "picture", rows[[pictures[i], i]]) for i in redrawn]
    # An equal picture is no near one, and what is near to it is near to its copies too.
    is_first = pictures == own
    distinct = is_first[near.pairs].all(axis=1)
    for (first, second), bits in zip(
        near.pairs[distinct], near.pair_distances[distinct], strict=True
    ):
        pairs.append(_pair(survey, "near", rows[[first, second]], int(bits)))
    pairs.sort(key=lambda p: (-len(p.crosses), p.distance, p.first, p.second))
    return Duplicates(
        tuple(pairs),
        same_as=_spread(survey, rows, np.where(is_first, -1, rows[pictures])),
        nearest=_spread(survey, rows, _rows_of(near.nearest, rows)),
        distance=_spread(survey, rows, near.distance.astype(np.int64)),
    )


def first_equal(digests: Sequence[bytes]) -> NDArray[np.int64]:
    """For each the index of the first that equals it: itself, where there is none."""
    first: dict[bytes, int] = {}
    found = [first.setdefault(digest, index) for index, digest in enumerate(digests)]
    return np.array(found, np.int64)


def _rows_of(indices: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    # A picture that is alone has no nearest one.
    return rows[indices] if len(rows) > 1 else indices


def _pair(
    survey: Survey, kind: Kind, rows: NDArray[np.int64], distance: int = 0
) -> Pair:
    first, second = (survey.listing.files[row] for row in rows)
    differs = {
        "split": first.part != second.part,
        "label": set(first.labels) != set(second.labels),
        "patient": first.patient != second.patient,
    }
    crosses = tuple(name for name, is_so in differs.items() if is_so)
    return Pair(kind, int(rows[0]), int(rows[1]), distance, crosses)


def _spread(
    survey: Survey, rows: NDArray[np.int64], values: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Values of the readable files, for all files; -1 for the others."""
    every = np.full(len(survey.measured), -1)
    every[rows] = values
    return every
