"""Rows on their way through a shuffle, many in one element.

Each element costs a runner much beside what it holds, and Beam's in-process runner
keeps every one as Python objects, some kilobytes a file. So rows that are only looked
up travel packed: those of a shard together, which is unpacked when its turn comes.
"""

from __future__ import annotations

import pickle
import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import apache_beam as beam

# The files of a shard are read one after the other, by one worker. Of ten million each
# has some 2,400, and of a hundred hardly two are in one.
SHARDS = 4096
# What is held until it is packed, of all keys.
_ROWS = 16_384
_FASTEST = 1


class Pack(beam.DoFn):
    """(key, row)s → (key, packed rows), those of one key together."""

    def start_bundle(self) -> None:
        self._rows: defaultdict[Hashable, list[Any]] = defaultdict(list)
        self._held = 0

    def process(self, keyed: tuple[Any, Any]) -> Iterator[tuple[Any, bytes]]:
        key, row = keyed
        self._rows[key].append(row)
        self._held += 1
        if self._held >= _ROWS:
            yield from self._packed()

    def finish_bundle(self) -> Iterator[Any]:
        for each in self._packed():
            yield beam.transforms.window.GlobalWindows.windowed_value(each)

    def _packed(self) -> Iterator[tuple[Any, bytes]]:
        rows, self._rows, self._held = self._rows, defaultdict(list), 0
        for key, of_key in rows.items():
            yield key, pack(of_key)


class PackByShard(beam.PTransform):
    """(text, row)s → (shard of the text, packed (text, row)s)."""

    def expand(self, keyed: beam.PCollection) -> beam.PCollection:
        return keyed | "ByShard" >> beam.Map(by_shard) | "Pack" >> beam.ParDo(Pack())


def by_shard(keyed: tuple[str, Any]) -> tuple[int, tuple[str, Any]]:
    """(text, row) by the shard of the text."""
    return shard(keyed[0]), keyed


def shard(text: str) -> int:
    """The shard of `text`, in [0, SHARDS): the same in every process."""
    return zlib.crc32(text.encode("utf-8", "surrogateescape")) % SHARDS


def pack(rows: list[Any]) -> bytes:
    """`rows` as bytes, for `unpack`."""
    return zlib.compress(pickle.dumps(rows, pickle.HIGHEST_PROTOCOL), _FASTEST)


def unpack(packed: Iterable[bytes]) -> Iterator[Any]:
    """The rows that were packed, those of one call of `pack` after the other."""
    for each in packed:
        # Written by this job, and read by no other.
        yield from pickle.loads(zlib.decompress(each))  # noqa: S301
