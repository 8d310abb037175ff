from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from beam_pipeline.comparison import matching
from beam_pipeline.comparison.matching import COLUMNS, Matching

_TYPES = [pa.string(), pa.int64(), pa.string(), pa.string()]
Row = tuple[str, int | None, str | None, str | None]


def table(*rows: Row) -> pa.Table:
    """Of (source_uri, source_bytes, source_digest, sop_instance_uid), in two parts."""
    columns = zip(*rows, strict=True) if rows else [()] * 4
    chunked = [
        pa.chunked_array([values[:1], values[1:]], kind)
        for values, kind in zip(columns, _TYPES, strict=True)
    ]
    return pa.table(chunked, COLUMNS)


def pairs(found: Matching) -> set[tuple[int, int]]:
    return set(zip(found.a.tolist(), found.b.tolist(), strict=True))


def test_files_are_known_by_path_then_by_digest_then_by_uid() -> None:
    a = table(
        ("/x/1", 10, "d1", "1.1"),
        ("/x/2", 20, "d2", "1.2"),
        ("/x/3", 30, None, "1.3"),
        ("/x/4", 40, "d4", "1.4"),
    )
    b = table(
        ("/y/3", 30, "d3", "1.3"),
        ("/y/2", 20, "d2", "1.2"),
        ("/x/1", 10, "d1", "1.1"),
        ("/y/5", 40, "d5", "1.5"),
    )
    found = matching.match(a, b)
    assert pairs(found) == {(0, 2), (1, 1), (2, 0)}
    assert found.by_key == {
        "source_uri": 1,
        "source_digest": 1,
        "sop_instance_uid": 1,
    }
    assert (found.only_a, found.only_b, found.replaced) == (1, 1, 0)


def test_a_path_with_other_content_is_another_file() -> None:
    # Every night the export begins with IM1 again.
    a = table(("IM1", 10, "d1", "1"), ("IM2", 10, "d2", "2"), ("IM3", 10, None, "3"))
    b = table(("IM1", 10, "d2", "2"), ("IM2", 10, "d9", "9"), ("IM3", 11, None, "3"))
    found = matching.match(a, b)
    assert pairs(found) == {(1, 0)}
    assert found.replaced == 3
    assert found.by_key["source_digest"] == 1


def test_a_resend_with_other_bytes_is_another_file() -> None:
    a = table(("/x", 10, "broken", "1.1"), ("/z", 10, None, "1.2"))
    b = table(("/y", 10, "whole", "1.1"), ("/w", 12, None, "1.2"))
    found = matching.match(a, b)
    assert (len(found.a), found.only_a, found.only_b) == (0, 2, 2)


def test_what_one_run_has_not_read_is_known_by_its_size() -> None:
    a = table(("/x", 10, None, "1.1"), ("/y", None, None, None))
    b = table(("/x", 10, "d", "1.1"), ("/y", 5, "e", None))
    assert pairs(matching.match(a, b)) == {(0, 0), (1, 1)}


def test_the_same_bytes_twice_are_two_files() -> None:
    a = table(("/a/3", 1, "d", None), ("/a/1", 1, "d", None), ("/a/2", 1, "d", None))
    b = table(("/b/1", 1, "d", None), ("/b/0", 1, "d", None))
    found = matching.match(a, b)
    # In the order of their paths; the third of A has nothing left.
    assert pairs(found) == {(1, 1), (2, 0)}
    assert (found.only_a, found.only_b) == (1, 0)


def test_nulls_do_not_meet() -> None:
    a = table(("/a", 1, None, None))
    b = table(("/b", 1, None, None))
    assert len(matching.match(a, b).a) == 0


@pytest.mark.parametrize("empty", ["a", "b", "both"])
def test_an_empty_run_has_nothing_in_common(empty: str) -> None:
    a = table(*[("/a", 1, "d", "1")][empty != "b" :])
    b = table(*[("/a", 1, "d", "1")][empty != "a" :])
    found = matching.match(a, b)
    assert (len(found.a), found.only_a, found.only_b) == (0, len(a), len(b))


def test_a_large_run_is_joined_as_pandas_joins_it() -> None:
    random = np.random.default_rng(0)
    contents = random.integers(0, 300, (2, 500))
    sides = [
        table(*((f"/{side}/{row}", 1, f"d{digest}", None) for row, digest in each))
        for side, each in zip("ab", map(enumerate, contents.tolist()), strict=True)
    ]
    found = matching.match(*sides)
    frames = [
        pd.DataFrame({"row": range(500), "uri": side["source_uri"], "digest": digests})
        .sort_values("uri")
        .assign(nth=lambda frame: frame.groupby("digest").cumcount())
        for side, digests in zip(sides, contents, strict=True)
    ]
    joined = frames[0].merge(frames[1], on=["digest", "nth"])
    assert pairs(found) == set(zip(joined["row_x"], joined["row_y"], strict=True))
    counts = [Counter(each.tolist()) for each in contents]
    assert len(found.a) == (counts[0] & counts[1]).total()


def test_places_are_those_of_the_first() -> None:
    values, among = (
        pa.chunked_array([["b", None, "c"]]),
        pa.chunked_array([["a"], "bb"]),
    )
    rows, first = matching.places(values, among)
    assert (rows.tolist(), first.tolist()) == ([0], [1])
