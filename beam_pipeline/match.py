"""Patterns → the files that match, each once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.records import Source


@dataclass
class Match(beam.PTransform):
    """The files that match any of `patterns`, as `Source`s, spread over the workers.

    Grouping by URI spreads them like a Reshuffle, and lists a file once that two
    patterns match.
    """

    patterns: tuple[str, ...]

    def expand(self, begin: beam.Pipeline) -> beam.PCollection[Source]:
        return (
            begin
            | "Patterns" >> beam.Create(self.patterns)
            | "List" >> beam.FlatMap(list_files)
            | "KeyByUri" >> beam.Map(_by_uri)
            | "Spread" >> beam.GroupByKey()
            | "EachOnce" >> beam.MapTuple(_first)
        )


def normalise(pattern: str) -> str:
    """`pattern` from the root, where a local directory stands for all below it."""
    if os.path.isdir(pattern):
        return os.path.join(_literal(os.path.abspath(pattern)), "**")
    return absolute(pattern)


def absolute(path: str) -> str:
    """A local path from the root, so that rows name files that anyone can find."""
    return os.path.abspath(path) if FileSystems.get_scheme(path) is None else path


def matches_any(pattern: str) -> bool:
    """Whether at least one file matches."""
    return bool(FileSystems.match([pattern], limits=[1])[0].metadata_list)


def list_files(pattern: str) -> Iterator[Source]:
    """Every file that matches `pattern`, in the filesystem's order."""
    for found in FileSystems.match([pattern])[0].metadata_list:
        modified = found.last_updated_in_seconds
        yield Source(
            uri=_encodable(found.path),
            size=found.size_in_bytes,
            modified=datetime.fromtimestamp(modified, UTC) if modified else None,
        )


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
    """A directory whose name no glob character can be taken from.

    Beam's patterns have no escape; `?` in their place matches the character itself.
    """
    return re.sub(r"[\[\]*]", "?", directory)


def _by_uri(source: Source) -> tuple[str, Source]:
    return source.uri, source


def _first(uri: str, sources: Iterable[Source]) -> Source:
    return next(iter(sources))
