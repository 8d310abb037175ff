"""Patterns → the files that match, each once, with what a table says of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from beam_pipeline import metadata
from beam_pipeline.metadata import PathPattern
from beam_pipeline.records import Metadata, Source

UNMATCHED_METADATA = "metadata_without_file"
_METRICS = "beam_pipeline"
# A folder of such a name was to be a file; somebody should know.
_FILE_NAMES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")


@dataclass
class Match(beam.PTransform):
    """The files that match any of `patterns`, as `Source`s, spread over the workers.

    Grouping by URI spreads them like a Reshuffle, lists a file once that two patterns
    match, and joins what the table `metadata` says of it.
    """

    patterns: tuple[str, ...]
    metadata: str | None = None
    path_pattern: PathPattern | None = None

    def expand(self, begin: beam.Pipeline) -> beam.PCollection[Source]:
        files = (
            begin
            | "Patterns" >> beam.Create(self.patterns)
            | "List" >> beam.FlatMap(list_files)
            | "KeyByUri" >> beam.Map(_by_uri)
        )
        tables = [] if self.metadata is None else [self.metadata]
        described = (
            begin
            | "Metadata" >> beam.Create(tables)
            | "ReadMetadata" >> beam.FlatMap(metadata.read)
        )
        return (
            {"files": files, "metadata": described}
            | "Spread" >> beam.CoGroupByKey()
            | "EachOnce" >> beam.FlatMap(_joined, self.path_pattern)
        )


def normalise(pattern: str) -> str:
    """`pattern` from the root, where a local directory stands for all below it."""
    if os.path.isdir(pattern):
        return os.path.join(_literal(os.path.abspath(pattern)), "**")
    if os.path.lexists(pattern):
        return _literal(os.path.abspath(pattern))
    return absolute(pattern)


def absolute(path: str) -> str:
    """A local path from the root, so that rows name files that anyone can find."""
    return os.path.abspath(path) if FileSystems.get_scheme(path) is None else path


def matches_any(pattern: str) -> bool:
    """Whether at least one file matches."""
    if FileSystems.get_scheme(pattern) is None:
        return next(list_files(pattern), None) is not None
    return bool(FileSystems.match([pattern], limits=[1])[0].metadata_list)


def list_files(pattern: str) -> Iterator[Source]:
    """Every file that matches `pattern`, in the filesystem's order."""
    if FileSystems.get_scheme(pattern) is None:
        yield from _list_local(pattern)
        return
    for found in FileSystems.match([pattern])[0].metadata_list:
        modified = _time(found.last_updated_in_seconds or None)
        yield Source(uri=found.path, size=found.size_in_bytes, modified=modified)


def _list_local(pattern: str) -> Iterator[Source]:
    """As Beam lists, and also what Beam leaves out: what cannot be followed or opened.

    A link that leads nowhere or back to a folder above it, and a folder that may not be
    read, are given as they are: reading them says why not.
    """
    is_match = re.compile(
        FileSystems.get_filesystem(pattern).translate_pattern(pattern)
    )
    fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    beginning = fixed if fixed == pattern else os.path.dirname(fixed)
    for path in _walk(beginning or "/"):
        if is_match.match(path):
            yield _local_source(path)


def _walk(beginning: str) -> Iterator[str]:
    """The paths at and below `beginning` that are to have a row."""
    # With each path the folders above it, which a link below must not lead back to.
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(beginning, frozenset())]
    while waiting:
        path, above = waiting.pop()
        try:
            names = sorted(os.listdir(path), reverse=True)
            status = os.stat(path)
        # A file, or a folder that may not be read, or a link that leads nowhere.
        except OSError:
            if os.path.lexists(path):
                yield path
            continue
        folder = (status.st_dev, status.st_ino)
        if folder in above or path.lower().endswith(_FILE_NAMES):
            yield path
        if folder not in above:
            below = above | {folder}
            waiting += [(os.path.join(path, name), below) for name in names]


def _local_source(path: str) -> Source:
    try:
        status = os.stat(path)
    # A link that leads nowhere or in a circle, or a file that has just gone.
    except OSError:
        return Source(uri=_encodable(path))
    return Source(_encodable(path), status.st_size, _time(status.st_mtime))


def _time(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    # A clock that was wrong by millennia.
    except (OverflowError, ValueError, OSError):
        return None


def _encodable(path: str) -> str:
    """`path`; as a file URI where its bytes are no UTF-8, which no column can hold."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(path))
    return path


def covers(pattern: str, path: str) -> bool:
    """Whether a file at `path` would match `pattern`."""
    regex = FileSystems.get_filesystem(pattern).translate_pattern(pattern)
    return re.match(regex, path) is not None


def _literal(directory: str) -> str:
    """A path whose name no glob character can be taken from.

    Beam's patterns have no escape; `?` in their place matches the character itself.
    """
    return re.sub(r"[\[\]*]", "?", directory)


def _by_uri(source: Source) -> tuple[str, Source]:
    return source.uri, source


def _joined(
    entry: tuple[str, Mapping[str, Iterable[Any]]], path_pattern: PathPattern | None
) -> Iterator[Source]:
    uri, found = entry
    source = next(iter(found["files"]), None)
    described: Metadata | None = next(iter(found["metadata"]), None)
    if source is None:
        Metrics.counter(_METRICS, UNMATCHED_METADATA).inc()
        return
    if described is None and path_pattern is not None:
        described = path_pattern.of(uri)
    yield source if described is None else replace(source, metadata=described)
