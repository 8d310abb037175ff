"""An object in a bucket as a seekable stream that fetches each byte once, if at all."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.records import Source
from beam_pipeline.storage.faults import Changed, Fault

# The header of nearly every radiograph ends within the first.
_FIRST_BYTES = 32 * 2**10
_MOST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Piece:
    """Some bytes of an object, and what came with them.

    Attributes:
        data: the bytes; fewer than were asked for at the object's end.
        size: of the whole object.
        etag: of the same; None where storage names none.
    """

    data: bytes
    size: int
    etag: str | None = None


# (start, stop, the ETag that it must have) → the bytes between them.
Fetch = Callable[[int, int, str | None], Piece]


class RangedReader(io.BufferedIOBase):
    """A stream over ranges: first the header, then more and more ahead of the reader.

    What was fetched is kept, so that whoever reads the header and then all of it
    fetches the rest alone. An object that is not the listed one is noticed.

    Args:
        source: the object; without a size, the first range tells it.
        fetch: what gets a range; its `Fault`s end as `Unreadable`.
    """

    def __init__(self, source: Source, fetch: Fetch) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = source.size
        self._etag = source.etag
        self._position = 0
        self._ahead = _FIRST_BYTES
        # Start and bytes of what is here, in order.
        self._blocks: list[tuple[int, bytes]] = []

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {
            io.SEEK_SET: lambda: 0,
            io.SEEK_CUR: lambda: self._position,
            io.SEEK_END: self._end,
        }[whence]()
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes, or all that are left.

        Raises:
            Unreadable: READ_FAILED, or STILL_CHANGING.
        """
        start, end = self._position, self._end()
        stop = end if size is None or size < 0 else min(start + size, end)
        if start >= stop:
            return b""
        for gap, length in list(self._gaps(start, stop)):
            self._load(gap, length)
        data = self._joined(start, stop)
        self._position = stop
        return data

    def close(self) -> None:
        self._blocks.clear()
        super().close()

    def _end(self) -> int:
        if self._size is None:
            self._load(0, 0)
        return self._size or 0

    def _gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Start and length of what is missing between two places."""
        for begin, data in self._blocks:
            if start < min(begin, stop):
                yield start, min(begin, stop) - start
            start = max(start, begin + len(data))
        if start < stop:
            yield start, stop - start

    def _load(self, start: int, length: int) -> None:
        stop = start + max(length, self._ahead)
        place = bisect_right(self._blocks, start, key=lambda block: block[0])
        if place < len(self._blocks):
            stop = min(stop, self._blocks[place][0])
        if self._size is not None:
            stop = min(stop, self._size)
        piece = self._fetched(start, stop)
        self._blocks.insert(place, (start, piece.data))
        self._ahead = min(2 * self._ahead, _MOST_BYTES)

    def _fetched(self, start: int, stop: int) -> Piece:
        try:
            piece = self._fetch(start, stop, self._etag)
        except Changed as fault:
            raise Unreadable(Failure.STILL_CHANGING, str(fault)) from fault
        except Fault as fault:
            raise Unreadable(Failure.READ_FAILED, str(fault)) from fault
        known = piece.size if self._size is None else self._size
        if piece.size != known:
            detail = f"it was listed with {known:,} bytes and has {piece.size:,}"
            raise Unreadable(Failure.STILL_CHANGING, detail)
        if len(piece.data) != min(stop, known) - start:
            raise Unreadable(Failure.READ_FAILED, "a range of it came incomplete")
        self._size, self._etag = known, self._etag or piece.etag
        return piece

    def _joined(self, start: int, stop: int) -> bytes:
        parts = [
            data[max(0, start - begin) : stop - begin]
            for begin, data in self._blocks
            if begin < stop and begin + len(data) > start
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)
