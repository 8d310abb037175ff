"""Segments → the rows whose content or SOP Instance UID another row has too.

They are few of many. Hashes of both travel as arrays, a segment at a time, in 12 bytes
a row each; only the rows that share one are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3
from numpy.typing import NDArray

from beam_pipeline import runs, studies
from beam_pipeline.runs import Segment
from beam_pipeline.studies import Instance

_SHARDS = 64
_DIGESTS = ["image_digest", "source_digest"]
_SOP = "sop_instance_uid"

# The path of a segment, rows of it (uint32), and the hash of each (uint64).
_Hashes = tuple[str, NDArray[np.uint32], NDArray[np.uint64]]
_Rows = tuple[str, NDArray[np.uint32]]


class Repeated(beam.PTransform):
    """`Segment`s → the `Instance`s of rows that share a key with another row."""

    def expand(self, segments: beam.PCollection[Segment]) -> beam.PCollection[Instance]:
        return (
            segments
            | "Hash" >> beam.FlatMap(hashes)
            | "GroupHashes" >> beam.GroupByKey()
            | "Shared" >> beam.FlatMapTuple(_shared)
            | "GroupRows" >> beam.GroupByKey()
            | "LookCloser" >> beam.FlatMapTuple(_instances)
        )


def hashes(segment: Segment) -> Iterator[tuple[int, _Hashes]]:
    """The hashes of a segment's keys, by shard."""
    table = runs.read_parquet(segment.path, [*_DIGESTS, _SOP])
    content = pc.coalesce(*(table[name] for name in _DIGESTS))
    for kind, keys in (("content", content), ("sop", table[_SOP])):
        rows, values = _hashed(kind, keys)
        shards = values % _SHARDS
        for shard in np.unique(shards):
            chosen = shards == shard
            yield int(shard), (segment.path, rows[chosen], values[chosen])


def _hashed(
    kind: str, keys: pa.ChunkedArray
) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    rows = np.flatnonzero(pc.is_valid(keys).to_numpy()).astype(np.uint32)
    texts = keys.drop_null().to_pylist()
    digests = b"".join(blake3(f"{kind} {t}".encode()).digest(length=8) for t in texts)
    return rows, np.frombuffer(digests, np.uint64)


def _shared(shard: int, blocks: Iterable[_Hashes]) -> Iterator[_Rows]:
    paths, rows, values = zip(*blocks, strict=True)
    _, kinds, counts = np.unique(
        np.concatenate(values), return_inverse=True, return_counts=True
    )
    ends = np.cumsum([len(each) for each in rows])[:-1]
    for path, each, shared in zip(
        paths, rows, np.split(counts[kinds] > 1, ends), strict=True
    ):
        if shared.any():
            yield path, each[shared]


def _instances(path: str, found: Iterable[NDArray[np.uint32]]) -> Iterator[Instance]:
    rows = np.unique(np.concatenate(list(found)))
    table = runs.read_parquet(path, studies.COLUMNS).take(rows)
    for row, columns in zip(rows.tolist(), table.to_pylist(), strict=True):
        yield Instance(segment=path, row=row, **columns)
