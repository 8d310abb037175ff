"""A run's files: where they are, and how each appears whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems


@dataclass(frozen=True)
class Run:
    """Where a run writes, and what it says about itself.

    Attributes:
        output: the folder or bucket prefix of all runs.
        run_id: of this run.
        started: when it did, UTC, ISO 8601.
        about: model, options and versions, for `run.json`.
    """

    output: str
    run_id: str
    started: str
    about: Mapping[str, Any]

    def instances(self, name: str) -> str:
        """The path of a part of the table `instances`."""
        return self._path("instances", f"run={self.run_id}", name)

    def studies(self, name: str) -> str:
        """The path of a part of the table `studies`."""
        return self._path("studies", f"run={self.run_id}", name)

    def record(self, name: str) -> str:
        """The path of `run.json` or `_SUCCESS`."""
        return self._path("runs", self.run_id, name)

    def journal(self, name: str = "") -> str:
        """The path of a segment, or of all of them."""
        return self._path("_journal", self.run_id, name)

    def _path(self, *names: str) -> str:
        return str(FileSystems.join(self.output, *filter(None, names)))


@dataclass(frozen=True)
class Segment:
    """A file of final rows: where it is and what it holds.

    Attributes:
        path: its URI.
        rows: how many.
        counts: rows by (status, reason).
    """

    path: str
    rows: int
    counts: tuple[tuple[tuple[str, str | None], int], ...]


@dataclass(frozen=True)
class Published:
    """A finished file of a table, as `run.json` names it."""

    path: str
    rows: int
    sha256: str


def probe(output: str) -> None:
    """Try to write below `output`.

    Raises:
        ValueError: it cannot be written, and why.
    """
    path = FileSystems.join(output, "_journal", f"probe-{uuid.uuid4().hex}")
    try:
        write_bytes(path, b"probe\n")
        FileSystems.delete([path])
    except (OSError, ValueError, BeamIOError) as error:
        raise ValueError(f"--output {output} cannot be written: {error}") from error


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole file; on a local disk nobody ever sees half of it.

    Some bytes, that is: Beam uploads to S3 in parts, and none are refused there.
    """
    # An object in a bucket appears whole, when it is closed; a local file does not.
    local = FileSystems.get_scheme(path) is None
    # Readers of a Parquet folder pass over names that begin with an underscore.
    folder, name = FileSystems.split(path)
    target = FileSystems.join(folder, f"_{name}.partial") if local else path
    with FileSystems.create(
        target, compression_type=CompressionTypes.UNCOMPRESSED
    ) as stream:
        stream.write(data)
    if local:
        FileSystems.rename([target], [path])


def to_parquet(table: pa.Table) -> bytes:
    """`table` as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def read_parquet(path: str, columns: list[str] | None = None) -> pa.Table:
    """The table in a Parquet file, or some `columns` of it."""
    with FileSystems.open(
        path, compression_type=CompressionTypes.UNCOMPRESSED
    ) as stream:
        return pq.read_table(pa.BufferReader(stream.read()), columns=columns)
