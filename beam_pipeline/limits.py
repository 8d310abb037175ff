"""What one file may cost, checked before it is paid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, cast

from beam_pipeline.errors import Failure, Unreadable

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one file may take; a file that needs more is `TOO_LARGE`.

    The defaults hold twice the largest detectors and film scans of today.

    Attributes:
        file_bytes: size of the file.
        pixels: Rows × Columns.
        inflated_bytes: size of a deflated data set, once it is inflated.
        seconds: time to fetch, decode and prepare it.
        memory_bytes: memory of the process that does so.
    """

    file_bytes: int = 128 * _MIB
    pixels: int = 40_000_000
    inflated_bytes: int = 256 * _MIB
    seconds: float = 60.0
    memory_bytes: int = 512 * _MIB

    def check_file(self, size: int) -> None:
        """Raise `Unreadable`, TOO_LARGE, for a file of more than `file_bytes`."""
        if size > self.file_bytes:
            raise _too_large(f"{size:,} bytes", f"{self.file_bytes:,}")

    def bounded(self, stream: BinaryIO) -> BinaryIO:
        """`stream`, of which no more than `file_bytes` can be read.

        What is passed over does not count. To read on raises `Unreadable`, TOO_LARGE.
        """
        return cast(BinaryIO, _Bounded(stream, self))

    def check_pixels(self, rows: int, columns: int) -> None:
        """Raise `Unreadable`, TOO_LARGE, for more than `pixels`."""
        if rows * columns > self.pixels:
            raise _too_large(f"{rows} × {columns} pixels", f"{self.pixels:,}")

    def check_inflated(self, size: int) -> None:
        """Raise `Unreadable`, TOO_LARGE, for more than `inflated_bytes`."""
        if size > self.inflated_bytes:
            raise _too_large(
                "a deflated data set that grows on", f"{self.inflated_bytes:,} bytes"
            )

    def out_of_memory(self) -> Unreadable:
        """TOO_LARGE, for a file that needed more than `memory_bytes`."""
        return Unreadable(
            Failure.TOO_LARGE,
            f"it needs more than {self.memory_bytes:,} bytes of memory",
        )


class _Bounded:
    """What header readers need of a stream: one may promise values without an end."""

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._read = 0
        self.seek = stream.seek
        self.tell = stream.tell

    def read(self, size: int | None = -1) -> bytes:
        left = self._limits.file_bytes - self._read + 1
        unlimited = size is None or size < 0
        data = self._stream.read(left if unlimited else min(size or 0, left))
        self._read += len(data)
        if self._read > self._limits.file_bytes:
            raise _too_large(
                "a header that goes on", f"{self._limits.file_bytes:,} bytes"
            )
        return data


def _too_large(found: str, limit: str) -> Unreadable:
    return Unreadable(Failure.TOO_LARGE, f"{found}; at most {limit} are read")
