"""What the fuzzer's process does: a module of its own, since processes import it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from beam_pipeline.read import Reading
from beam_pipeline.records import Outcome, Ready, Source


@dataclass(frozen=True)
class Examination:
    """What a process does with an input: read it, and tell its own memory at last."""

    readings: tuple[Reading, Reading]

    def __call__(self, item: tuple[int, Source]) -> Iterator[Ready | Outcome | int]:
        which, source = item
        yield from self.readings[which](source)
        yield _peak_bytes()


def _peak_bytes() -> int:
    """The most memory that this process has had resident."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0
