from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline import packed
from beam_pipeline.packed import SHARDS, Pack, PackByShard, pack, shard, unpack
from beam_pipeline.records import Source


def test_what_was_packed_is_unpacked_in_its_order() -> None:
    rows = [(f"{i}", Source(f"/a/{i}.dcm", i)) for i in range(100)]
    assert list(unpack([pack(rows[:30]), pack([]), pack(rows[30:])])) == rows


def test_a_shard_depends_on_the_text_alone() -> None:
    # From `printf %s /a/b.dcm | gzip -c | tail -c8 | head -c4`: the same everywhere.
    assert shard("/a/b.dcm") == int.from_bytes(b"\x7c\xe5\x5d\x0f", "little") % SHARDS
    assert shard("\udce9") in range(SHARDS)
    found = [shard(f"/exports/2026-11-20/{i}.dcm") for i in range(10 * SHARDS)]
    assert len(set(found)) > 0.99 * SHARDS


@pytest.mark.parametrize("held", [1, 7, 10_000])
def test_every_row_arrives_once_under_its_key(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_ROWS", held)
    rows = [(i % 3, i) for i in range(100)]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        grouped = pipeline | beam.Create(rows) | beam.ParDo(Pack()) | beam.GroupByKey()
        found = grouped | beam.MapTuple(
            lambda key, chunks: (key, sorted(unpack(chunks)))
        )
        assert_that(found, equal_to([(k, list(range(k, 100, 3))) for k in range(3)]))


def test_rows_of_one_text_meet() -> None:
    texts = ["a", "b", "", "ä"]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        one = pipeline | "One" >> beam.Create([(t, 1) for t in texts]) | PackByShard()
        two = pipeline | "Two" >> beam.Create([(t, 2) for t in texts])
        found = (
            {"one": one, "two": two | "Pack" >> PackByShard()}
            | beam.CoGroupByKey()
            | beam.FlatMapTuple(
                lambda _, rows: [
                    (text, row, other)
                    for text, row in unpack(rows["one"])
                    for same, other in unpack(rows["two"])
                    if same == text
                ]
            )
        )
        assert_that(found, equal_to([(text, 1, 2) for text in texts]))
