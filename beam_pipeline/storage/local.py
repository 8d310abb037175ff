"""Files on this machine's disks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes

from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.records import Source
from beam_pipeline.storage import patterns
from beam_pipeline.storage.patterns import Ways
from beam_pipeline.storage.settings import Settings

# A folder of such a name was to be a file; somebody should know.
_FILE_NAMES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")


def open(source: Source, settings: Settings) -> BinaryIO:
    """The bytes of a file.

    Raises:
        Unreadable: READ_FAILED, it is no file.
        OSError: it cannot be opened.
    """
    # Opening a FIFO would wait for somebody to write to it.
    descriptor = os.open(_path(source.uri), os.O_RDONLY | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "device")
        raise Unreadable(Failure.READ_FAILED, f"it is a {kind}, and no file")
    return os.fdopen(descriptor, "rb")


def find(uri: str, settings: Settings) -> Source:
    """The file as listing would give it; without a size where it cannot be found."""
    return _source(os.fsdecode(_path(uri)))


def normalise(pattern: str, settings: Settings) -> str:
    """`pattern` from the root, where a directory stands for all below it."""
    pattern = os.fsdecode(_path(pattern))
    whole = os.path.abspath(pattern)
    if os.path.isdir(pattern):
        return os.path.join(patterns.literal(whole), "**")
    return patterns.literal(whole) if os.path.lexists(pattern) else whole


def divide(pattern: str, settings: Settings) -> Iterator[Source | str]:
    """A disk is walked by one: its own speed is the limit, and not a round trip."""
    yield pattern


def list_part(pattern: str, part: str, settings: Settings) -> Iterator[Source]:
    """As Beam lists, and also what Beam leaves out: what cannot be followed or opened.

    A link that leads nowhere or back to a folder above it, and a folder that may not be
    read, are given as they are: reading them says why not.
    """
    fixed = patterns.fixed(part)
    beginning = fixed if fixed == part else os.path.dirname(fixed)
    yield from map(_source, _walk(beginning or "/", Ways(part)))


def prepare(settings: Settings) -> None:
    """Nothing: a disk needs no client."""


def _path(uri: str) -> bytes:
    if uri.startswith("file://"):
        return unquote_to_bytes(uri.removeprefix("file://"))
    return os.fsencode(uri)


def _walk(beginning: str, ways: Ways) -> Iterator[str]:
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


def _source(path: str) -> Source:
    try:
        status = os.stat(path)
    # A link that leads nowhere or in a circle, or a file that has just gone.
    except OSError:
        return Source(uri=_encodable(path))
    return Source(_encodable(path), status.st_size, time(status.st_mtime))


def time(seconds: float | None) -> datetime | None:
    """A time in UTC; None for a clock that was wrong by millennia."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _encodable(path: str) -> str:
    """`path`; as a file URI where its bytes are no UTF-8, which no column can hold."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(path))
    return path
