"""Which row of one run and which of another are of the same file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Rows = NDArray[np.int64]

COLUMNS = ["source_uri", "source_bytes", "source_digest", "sop_instance_uid"]
KEYS = ("source_uri", "source_digest", "sop_instance_uid")


@dataclass(frozen=True)
class Matching:
    """The rows of two runs, A and B, side by side.

    Attributes:
        a: (pairs,), the row in A of each pair.
        b: (pairs,), the row in B of each.
        by_key: how many pairs each of `KEYS` found.
        only_a: rows of A that are in no pair.
        only_b: rows of B that are in none.
        replaced: paths in both whose content is another.
    """

    a: Rows
    b: Rows
    by_key: dict[str, int]
    only_a: int
    only_b: int
    replaced: int


def match(a: pa.Table, b: pa.Table) -> Matching:
    """Pair the rows of two tables with `COLUMNS` that are of the same bytes.

    First by path, then by digest, then by SOP Instance UID and size, each among the
    rows that are left. Rows whose sizes or digests differ are no pair; a file that was
    not read whole has no digest, and its size speaks for it. Of several rows with one
    key the first belongs to the first, in the order of paths.
    """
    left = [np.arange(len(a)), np.arange(len(b))]
    pairs, by_key, replaced = [], {}, 0
    for key in KEYS:
        met = _meet((a, b), left, key)
        same = _same(a, b, *met)
        if key == "source_uri":
            replaced = int((~same).sum())
        found = [rows[same] for rows in met]
        left = [np.setdiff1d(*each, True) for each in zip(left, found, strict=True)]
        pairs.append(found)
        by_key[key] = int(same.sum())
    in_a, in_b = (np.concatenate(each) for each in zip(*pairs, strict=True))
    return Matching(in_a, in_b, by_key, len(left[0]), len(left[1]), replaced)


def places(values: pa.ChunkedArray, among: pa.ChunkedArray) -> tuple[Rows, Rows]:
    """Which rows of `values` are `among` others too, and the first place of each."""
    found = pc.index_in(values, value_set=among, skip_nulls=True)
    rows = np.flatnonzero(found.is_valid().to_numpy())
    return rows, found.drop_null().to_numpy().astype(np.int64)


def _meet(
    tables: tuple[pa.Table, pa.Table], left: list[Rows], key: str
) -> tuple[Rows, Rows]:
    """The rows that a key brings together, of those `left`: the n-th with the n-th."""
    values = [_key(*each, key) for each in zip(tables, left, strict=True)]
    ids, rows = [], []
    for table, among, each in zip(tables, left, values, strict=True):
        # As a number: of the first row of A with the same value.
        found, first = places(each, values[0])
        rows.append(among[found])
        ids.append(first << 32 | _nth(first, table["source_uri"], rows[-1]))
    _, i, j = np.intersect1d(ids[0], ids[1], True, return_indices=True)
    return rows[0][i], rows[1][j]


def _key(table: pa.Table, rows: Rows, key: str) -> pa.ChunkedArray:
    # A copy of a million paths is spared where all rows are left.
    column, sizes = (
        each if len(rows) == len(table) else each.take(rows)
        for each in (table[key], table["source_bytes"])
    )
    if key != "sop_instance_uid":
        return column
    return pc.binary_join_element_wise(column, sizes.cast(pa.string()), " ")


def _nth(groups: Rows, uris: pa.ChunkedArray, rows: Rows) -> Rows:
    """Which of its group each of `rows` is, in the order of their URIs."""
    if len(np.unique(groups)) == len(groups):
        return np.zeros(len(groups), np.int64)
    place = np.argsort(pc.sort_indices(uris.take(rows)).to_numpy())
    order = np.lexsort((place, groups))
    begins = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sizes = np.diff(begins, append=len(groups))
    nth = np.empty(len(groups), np.int64)
    nth[order] = np.arange(len(groups)) - np.repeat(begins, sizes)
    return nth


def _same(a: pa.Table, b: pa.Table, i: Rows, j: Rows) -> NDArray[np.bool_]:
    """Whether rows are of the same bytes, as far as both runs know."""
    same = np.ones(len(i), bool)
    for column in ("source_bytes", "source_digest"):
        equal = pc.equal(a[column].take(i), b[column].take(j))
        same &= equal.fill_null(True).to_numpy()
    return same
