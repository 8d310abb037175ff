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

from beam_pipeline import counts, metadata
from beam_pipeline.metadata import PathPattern
from beam_pipeline.records import Metadata, Source

UNMATCHED_METADATA = "metadata_without_file"
UNMATCHED_PATH = "path_without_match"
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
    fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    beginning = fixed if fixed == pattern else os.path.dirname(fixed)
    yield from map(_local_source, _walk(beginning or "/", _Ways(pattern)))


class _Ways:
    """Which files match a pattern, and which folders may lead to them."""

    def __init__(self, pattern: str) -> None:
        self._whole = _regex(pattern)
        parts = pattern.split(os.sep)
        anywhere = next((i for i, part in enumerate(parts) if "**" in part), None)
        self._ends = anywhere is None
        self._levels = [
            _regex(os.sep.join(parts[: depth + 1]))
            for depth in range(len(parts) if anywhere is None else anywhere)
        ]

    def lead_to(self, path: str) -> bool:
        return self._whole.match(path) is not None

    def lead_through(self, folder: str) -> bool:
        depth = folder.rstrip(os.sep).count(os.sep)
        if depth >= len(self._levels) - self._ends:
            return not self._ends
        return self._levels[depth].match(folder.rstrip(os.sep)) is not None


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(FileSystems.get_filesystem("/").translate_pattern(pattern))


def _walk(beginning: str, ways: _Ways) -> Iterator[str]:
    """The paths at and below `beginning` that are to have a row."""
    if not os.path.isdir(beginning):
        if os.path.lexists(beginning) and ways.lead_to(beginning):
            yield beginning
        return
    # With each folder those above it, which a link below must not lead back to.
    waiting = [(beginning, frozenset(map(_identity, _parents(beginning))))]
    while waiting:
        path, above = waiting.pop()
        folder = _identity(path)
        is_odd = folder in above or path.lower().endswith(_FILE_NAMES)
        if is_odd and ways.lead_to(path):
            yield path
        if folder in above or not ways.lead_through(path):
            continue
        for entry in _entries(path):
            if entry is None:
                yield path
            elif _is_folder(entry):
                waiting.append((entry.path, above | {folder}))
            elif ways.lead_to(entry.path):
                yield entry.path


def _parents(path: str) -> Iterator[str]:
    while path != (parent := os.path.dirname(path)):
        yield parent
        path = parent


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    # It has just gone.
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _entries(path: str) -> Iterator[os.DirEntry[str] | None]:
    """What is in a folder; None where it cannot be read, or read no further."""
    try:
        with os.scandir(path) as entries:
            yield from entries
    except OSError:
        yield None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    # A link in a circle.
    except OSError:
        return False


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
    """A pattern that `directory` matches; Beam's have sets of characters, no escape.

    One set stands for both brackets: Python warns of a set that begins with the opening
    one.
    """
    return re.sub(
        r"([\[\]])|([*?])", lambda m: "[][]" if m[1] else f"[{m[2]}]", directory
    )


def _by_uri(source: Source) -> tuple[str, Source]:
    counts.count(counts.FOUND)
    return source.uri, source


def _joined(
    entry: tuple[str, Mapping[str, Iterable[Any]]], path_pattern: PathPattern | None
) -> Iterator[Source]:
    uri, found = entry
    source = next(iter(found["files"]), None)
    described: Metadata | None = next(iter(found["metadata"]), None)
    if source is None:
        counts.count(UNMATCHED_METADATA)
        return
    counts.count(counts.LISTED)
    if described is None and path_pattern is not None:
        described = path_pattern.of(uri)
        if described is None:
            counts.count(UNMATCHED_PATH)
    yield source if described is None else replace(source, metadata=described)
