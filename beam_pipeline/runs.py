"""A run's files: where they are, and how each appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.device import DeviceTime
from beam_pipeline.records import Basis
from beam_pipeline.storage.patterns import literal

ROW_GROUP_ROWS = 10_000
_READERS = 16
_NO_TIME = DeviceTime()


def _token() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Run:
    """Where a run writes, and what it says about itself.

    Attributes:
        output: the folder or bucket prefix of all runs.
        run_id: of this run.
        started: when it did, UTC, ISO 8601.
        basis: what its rows rest on.
        inputs: digest of what it was to list.
        about: model, options and versions, for `run.json`.
        is_detached: whether no process waits for it, which would hold the output.
        token: of this attempt at the run; another one may have its name.
    """

    output: str
    run_id: str
    started: str
    basis: Basis
    inputs: str
    about: Mapping[str, Any]
    is_detached: bool = False
    token: str = field(default_factory=_token)

    @property
    def document(self) -> dict[str, Any]:
        """What `run.json` says before the first file is read."""
        return {
            "run_id": self.run_id,
            "started": self.started,
            "finished": None,
            "basis": asdict(self.basis),
            "inputs": self.inputs,
            **self.about,
        }

    def instances(self, name: str = "") -> str:
        """The path of a part of the table `instances`, or of all of them."""
        return self._path("instances", f"run={self.run_id}", name)

    def studies(self, name: str = "") -> str:
        """The path of a part of the table `studies`, or of all of them."""
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
        carried: how many of them an earlier run scored.
        device_time: how the time of the device went in which they were scored.
    """

    path: str
    rows: int
    counts: tuple[tuple[tuple[str, str | None], int], ...]
    carried: int = 0
    device_time: DeviceTime = _NO_TIME


@dataclass(frozen=True)
class Published:
    """A finished file of a table, as `run.json` names it."""

    path: str
    rows: int
    sha256: str


_FOLDERS = ("_journal", "instances", "studies", "runs")


def probe(output: str) -> None:
    """Try to write wherever a run writes below `output`, and leave nothing there.

    Raises:
        ValueError: it cannot be written, and why.
    """
    for name in _FOLDERS:
        folder = FileSystems.join(output, name)
        # Readers of a Parquet folder pass over names that begin with an underscore.
        path = FileSystems.join(folder, f"_probe-{uuid.uuid4().hex}")
        try:
            write_bytes(path, b"probe\n")
            FileSystems.delete([path])
        except (OSError, ValueError, BeamIOError) as error:
            raise ValueError(
                f"--output {output} cannot be written: {error}. If another user has "
                "written there, give it back: chown -R"
            ) from error
        if FileSystems.get_scheme(output) is None:
            # A folder that was made now would be this user's, who may only look.
            with suppress(OSError):
                os.rmdir(folder)


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole file; on a local disk nobody ever sees half of it.

    Some bytes, that is: Beam uploads to S3 in parts, and none are refused there.
    """
    # An object in a bucket appears whole, when it is closed; a local file does not.
    if FileSystems.get_scheme(path) is None:
        _write_local(Path(path), data)
        return
    with FileSystems.create(
        path, compression_type=CompressionTypes.UNCOMPRESSED
    ) as stream:
        stream.write(data)


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Readers of a Parquet folder pass over names that begin with an underscore.
    partial = path.with_name(f"_{path.name}.partial")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        # Or a power cut could leave the name without the bytes.
        os.fsync(stream.fileno())
    partial.replace(path)


def begin(run: Run) -> None:
    """Open the journal of `run`: say what its segments will rest on."""
    write_json(run.journal("run.json"), run.document)


def write_json(path: str, document: Mapping[str, Any]) -> None:
    """Write `document` as a JSON file."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode())


def documents(output: str) -> list[dict[str, Any]]:
    """The `run.json` of every run under `output`, finished or begun.

    One that cannot be read is passed over.
    """
    finished = [
        FileSystems.join(FileSystems.split(path)[0], "run.json")
        for path in list_files(output, "runs/*/_SUCCESS")
    ]
    begun = list_files(output, "_journal/*/run.json")
    # One small object each: in a bucket the time is all waiting.
    with ThreadPoolExecutor(_READERS) as threads:
        found = threads.map(_document, (*finished, *begun))
        by_name: dict[str, dict[str, Any]] = {}
        for document in filter(None, found):
            by_name.setdefault(document["run_id"], document)
    return list(by_name.values())


def _document(path: str) -> dict[str, Any] | None:
    try:
        with FileSystems.open(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        ) as stream:
            document: dict[str, Any] = json.loads(stream.read())
    except (OSError, ValueError, BeamIOError):
        return None
    return document if _is_record(document) else None


def _is_record(document: Any) -> bool:
    """Whether a JSON document says what the `run.json` of every version does."""
    return isinstance(document, dict) and all(
        isinstance(document.get(name), str) for name in ("run_id", "started")
    )


def delete_folder(folder: str) -> None:
    """Delete `folder` with all that is in it, where there is one."""
    if FileSystems.get_scheme(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    paths = list_files(folder, "**")
    if paths:
        FileSystems.delete(paths)


def segments(run: Run) -> Iterator[tuple[str, int]]:
    """The path and size of every segment in the journal of `run`."""
    for metadata in _match(run.journal(), "segment-*.parquet"):
        yield metadata.path, metadata.size_in_bytes


def list_files(folder: str, pattern: str) -> list[str]:
    """The paths below `folder` that match `pattern`; none where there is no folder."""
    return sorted(metadata.path for metadata in _match(folder, pattern))


def _match(folder: str, pattern: str) -> list[FileMetadata]:
    [found] = FileSystems.match([FileSystems.join(literal(folder), pattern)])
    return list(found.metadata_list)


def row_groups(path: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of the Parquet file at `path`, one after the other."""
    with _parquet(path) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, columns)


def row_group(path: str, number: int) -> pa.Table:
    """One row group of the Parquet file at `path`."""
    with _parquet(path) as file:
        return file.read_row_group(number)


@contextmanager
def _parquet(path: str) -> Iterator[pq.ParquetFile]:
    with FileSystems.open(
        path, compression_type=CompressionTypes.UNCOMPRESSED
    ) as stream:
        yield pq.ParquetFile(pa.PythonFile(stream, "r"))


def to_parquet(tables: Iterable[pa.Table], schema: pa.Schema) -> bytes:
    """The rows of `tables`, all of `schema`, as one Parquet file.

    Of the tables no more is held than a row group.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for group in _in_row_groups(tables, schema):
            writer.write_table(group, ROW_GROUP_ROWS)
    return bytes(sink.getvalue())


def _in_row_groups(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows in tables of a row group each; the last may have fewer."""
    held = schema.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while held.num_rows >= ROW_GROUP_ROWS:
            yield held.slice(0, ROW_GROUP_ROWS)
            held = held.slice(ROW_GROUP_ROWS)
    if held.num_rows:
        yield held


def read_parquet(path: str, columns: list[str] | None = None) -> pa.Table:
    """The table in a Parquet file, or some `columns` of it."""
    with FileSystems.open(
        path, compression_type=CompressionTypes.UNCOMPRESSED
    ) as stream:
        return pq.read_table(pa.BufferReader(stream.read()), columns=columns)
