"""Where files are. Each scheme is one module, and nothing else knows which.

Such a module has: `open`, `find`, `normalise`, `divide`, `list_part` and `prepare`. To
add one, write it and put it into `_MODULES`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.records import Source
from beam_pipeline.storage.faults import Fault, MissingPackage
from beam_pipeline.storage.patterns import covers
from beam_pipeline.storage.settings import Settings, scheme_of

__all__ = [
    "Fault",
    "MissingPackage",
    "Part",
    "Settings",
    "absolute",
    "covers",
    "divide",
    "find",
    "list_files",
    "list_part",
    "matches_any",
    "normalise",
    "open",
    "prepare",
    "scheme_of",
]

_MODULES = {"file": "local", "s3": "s3", "gs": "gcs"}
_OTHERS = "beam"
_SETTINGS = Settings()


@dataclass(frozen=True)
class Part:
    """A part of what matches a pattern, for one worker to list.

    Attributes:
        pattern: what is looked for.
        part: where, in the words of the scheme's module.
    """

    pattern: str
    part: str


def open(source: Source, settings: Settings = _SETTINGS) -> BinaryIO:
    """The bytes of `source` as a seekable stream; never decompressed by its name.

    Raises:
        Unreadable: READ_FAILED or STILL_CHANGING; reading may raise the same.
        OSError: a local file that cannot be opened.
    """
    try:
        return cast(BinaryIO, _module(source.uri).open(source, settings))
    except MissingPackage:
        raise
    except ValueError as error:
        detail = "its URI names no place that can be read"
        raise Unreadable(Failure.READ_FAILED, detail) from error


def find(uri: str, settings: Settings = _SETTINGS) -> Source:
    """The file at `uri` as listing would give it.

    One that cannot be found has neither size nor time: reading it says why.
    """
    try:
        return cast(Source, _module(uri).find(uri, settings))
    # Also what names no place at all: one line of a table must not end the night.
    except (Fault, OSError, ValueError):
        return Source(uri)


def list_files(pattern: str, settings: Settings = _SETTINGS) -> Iterator[Source]:
    """Every file that matches `pattern`, in storage's order.

    Raises:
        Fault: a bucket that cannot be listed.
    """
    for found in divide(pattern, settings):
        yield from list_part(found, settings)


def divide(pattern: str, settings: Settings = _SETTINGS) -> Iterator[Source | Part]:
    """Parts that several workers can list, and files that were found on the way."""
    for found in _module(pattern).divide(pattern, settings):
        yield found if isinstance(found, Source) else Part(pattern, found)


def list_part(found: Source | Part, settings: Settings = _SETTINGS) -> Iterator[Source]:
    """The files of one of those that `divide` gives."""
    if isinstance(found, Source):
        yield found
        return
    yield from _module(found.pattern).list_part(found.pattern, found.part, settings)


def matches_any(pattern: str, settings: Settings = _SETTINGS) -> bool:
    """Whether at least one file matches."""
    return next(list_files(pattern, settings), None) is not None


def normalise(pattern: str, settings: Settings = _SETTINGS) -> str:
    """`pattern` from the root, where a folder stands for all below it.

    A name that is there stands for itself, whatever wildcards it holds.
    """
    return str(_module(pattern).normalise(pattern, settings))


def absolute(path: str) -> str:
    """A local path from the root, so that rows name files that anyone can find."""
    return os.path.abspath(path) if "://" not in path else path


def prepare(settings: Settings) -> None:
    """Import and make what reading from the settings' schemes needs, once a process."""
    for scheme in sorted(settings.schemes):
        _of(scheme).prepare(settings)


def _module(uri: str) -> Any:
    return _of(scheme_of(uri))


def _of(scheme: str) -> Any:
    return importlib.import_module(f"{__name__}.{_MODULES.get(scheme, _OTHERS)}")
