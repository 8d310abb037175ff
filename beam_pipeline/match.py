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
from beam_pipeline.known import KnownFile, by_uri, looked_up
from beam_pipeline.metadata import PathPattern
from beam_pipeline.pseudonyms import Pseudonyms
from beam_pipeline.records import Metadata, Source
from beam_pipeline.runs import literal

SOURCES, CARRIED = "sources", "carried"
UNMATCHED_METADATA = "metadata_without_file"
UNMATCHED_PATH = "path_without_match"
# A folder of such a name was to be a file; somebody should know.
_FILE_NAMES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")


@dataclass
class Match(beam.PTransform):
    """The files that match any of `patterns`, spread over the workers.

    Grouping by URI spreads them like a Reshuffle, lists a file once that two patterns
    match, and joins what the table `metadata` and earlier runs say of it.

    Expands on what is known, `KnownFile`s. Its outputs are `sources`, the files to
    read, and `carried`, those whose row is taken from an earlier run.
    """

    patterns: tuple[str, ...]
    metadata: str | None = None
    path_pattern: PathPattern | None = None
    pseudonyms: Pseudonyms | None = None

    def expand(self, known: beam.PCollection[KnownFile]) -> Any:
        begin = known.pipeline
        files = (
            begin
            | "Patterns" >> beam.Create(self.patterns)
            | "List" >> beam.FlatMap(list_files)
            | "KeyByUri" >> beam.Map(_by_uri, self.pseudonyms)
        )
        tables = [] if self.metadata is None else [self.metadata]
        described = (
            begin
            | "Metadata" >> beam.Create(tables)
            | "ReadMetadata" >> beam.FlatMap(metadata.read)
            | "KeyMetadata" >> beam.Map(_rekeyed, self.pseudonyms)
        )
        rows = known | "KnownByUri" >> beam.FlatMap(by_uri)
        return (
            {"files": files, "metadata": described, "known": rows}
            | "Spread" >> beam.CoGroupByKey()
            | "EachOnce"
            >> beam.ParDo(_Join(self.path_pattern, self.pseudonyms)).with_outputs(
                CARRIED, main=SOURCES
            )
        )


def normalise(pattern: str) -> str:
    """`pattern` from the root, where a local directory stands for all below it."""
    if os.path.isdir(pattern):
        return os.path.join(literal(os.path.abspath(pattern)), "**")
    if os.path.lexists(pattern):
        return literal(os.path.abspath(pattern))
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


def _by_uri(source: Source, pseudonyms: Pseudonyms | None) -> tuple[str, Source]:
    counts.count(counts.FOUND)
    return _rekeyed((source.uri, source), pseudonyms)


def _rekeyed(keyed: tuple[str, Any], pseudonyms: Pseudonyms | None) -> tuple[str, Any]:
    """A value by the URI that rows have, which is what earlier runs know."""
    uri, value = keyed
    return (uri if pseudonyms is None else pseudonyms.uri(uri)), value


class _Join(beam.DoFn):
    """What is listed, described and known of one URI → how its row comes about."""

    def __init__(
        self, path_pattern: PathPattern | None, pseudonyms: Pseudonyms | None
    ) -> None:
        super().__init__()
        self._path_pattern = path_pattern
        self._pseudonyms = pseudonyms

    def process(
        self, entry: tuple[str, Mapping[str, Iterable[Any]]]
    ) -> Iterator[Source | beam.pvalue.TaggedOutput]:
        _, found = entry
        source = next(iter(found["files"]), None)
        described: Metadata | None = next(iter(found["metadata"]), None)
        if source is None:
            if described is not None:
                counts.count(UNMATCHED_METADATA)
            return
        counts.count(counts.LISTED)
        element = looked_up(self._described(source, described), found["known"])
        if isinstance(element, Source):
            yield element
        else:
            counts.count(counts.CARRIED)
            yield beam.pvalue.TaggedOutput(CARRIED, element)

    def _described(self, source: Source, described: Metadata | None) -> Source:
        if described is None and self._path_pattern is not None:
            described = self._path_pattern.of(source.uri)
            if described is None:
                counts.count(UNMATCHED_PATH)
        if described is None:
            return source
        digest = metadata.digest(described, self._pseudonyms)
        return replace(source, metadata=described, metadata_digest=digest)
