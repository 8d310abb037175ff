"""A table of files to score, in the place of listing: for archives too large for that.

`.txt` has a URI a line; `.csv` and `.parquet` have a column `uri` and may have `size`,
`modified` and `etag`. A relative path is relative to the folder that holds the table.
Rows are streamed: a table of any length takes little memory.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_pipeline import streamed
from beam_pipeline.records import Source

URI = "uri"
COLUMNS = (URI, "size", "modified", "etag")
_LOGGER = logging.getLogger(__name__)

# So many rows are looked at before a run begins.
_LOOKED_AT = 1000


class InputManifestError(ValueError):
    """A table of files that cannot be used: where, and what was expected."""


def read(path: str) -> Iterator[Source]:
    """The files that the table at `path` names, without size where it gives none.

    What is wrong in one of ten million entries does not end the night: an entry without
    a URI is passed over, one with another value that is none has its URI alone.

    Raises:
        InputManifestError: an unknown column, or no table.
    """
    folder = FileSystems.split(path)[0]
    for entry, row in _entries(path):
        try:
            yield _source(row, folder, entry)
        except InputManifestError as error:
            _LOGGER.warning("%s", error)
            if _uri(row):
                yield Source(_absolute(folder, _uri(row)))


def _entries(path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, row in enumerate(_rows(path), 1):
        yield f"{path}, entry {number}", row


def _uri(row: Mapping[str, Any]) -> str:
    uri = str(row.get(URI) or "")
    return uri if uri.strip() else ""


def _source(row: Mapping[str, Any], folder: str, where: str) -> Source:
    if not _uri(row):
        raise InputManifestError(f"{where}: no {URI}")
    return Source(
        uri=_absolute(folder, _uri(row)),
        size=_size(row.get("size"), where),
        modified=_time(row.get("modified"), where),
        # Inventories have ETags without quotes, answers to requests with them.
        etag=str(row.get("etag") or "").strip().strip('"') or None,
    )


def check(path: str) -> list[Source]:
    """The first files that the table at `path` names.

    Raises:
        InputManifestError: one without a URI, or a value that is none of its kind; the
            message names the entry, and never the value. Or no such table.
    """
    folder = FileSystems.split(path)[0]
    entries = islice(_entries(path), _LOOKED_AT)
    try:
        return [_source(row, folder, entry) for entry, row in entries]
    except (
        OSError,
        BeamIOError,
        pa.ArrowException,
        UnicodeDecodeError,
        csv.Error,
    ) as error:
        raise InputManifestError(
            f"--input_manifest {path} cannot be read ({type(error).__name__})"
        ) from error


def _rows(path: str) -> Iterator[Mapping[str, Any]]:
    if path.endswith(".txt"):
        yield from _lines(path)
    elif path.endswith((".csv", ".parquet")):
        yield from streamed.rows(path, partial(_check_columns, path))
    else:
        raise InputManifestError(f"{path} is none of: .txt, .csv, .parquet")


def _lines(path: str) -> Iterator[Mapping[str, Any]]:
    stream = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    with stream, io.TextIOWrapper(stream, "utf-8-sig") as text:
        yield from ({URI: line.rstrip("\r\n")} for line in text if line.strip())


def _check_columns(path: str, names: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(COLUMNS))
    if unknown or URI not in names:
        raise InputManifestError(
            f"{path} needs a column {URI!r}, and may have: {', '.join(COLUMNS[1:])}; "
            f"it also has: {', '.join(unknown) or 'none'}"
        )


def _absolute(folder: str, uri: str) -> str:
    if "://" in uri:
        return uri
    joined = uri if uri.startswith("/") else str(FileSystems.join(folder, uri))
    return joined if "://" in joined else os.path.normpath(joined)


def _size(value: Any, where: str) -> int | None:
    if value is None or value == "":
        return None
    try:
        size = int(value)
    except ValueError as error:
        raise InputManifestError(f"{where}: its size is no number") from error
    if size < 0:
        raise InputManifestError(f"{where}: its size is below 0")
    return size


def _time(value: Any, where: str) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InputManifestError(f"{where}: modified is no ISO 8601 time") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
