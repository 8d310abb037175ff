"""Feed changed files to the reader and see that each ends as a row.

    python -m benchmarks.fuzz --inputs 500000 --keep kept

Half of them meet the rules of the model in the box, the other half none, so that their
pixels are decoded. The same seed and number give the same input on every machine.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np

from beam_pipeline import manifest
from beam_pipeline.errors import Failure, Rejection
from beam_pipeline.images import rules
from beam_pipeline.images.eligibility import Rules
from beam_pipeline.limits import Limits
from beam_pipeline.manifest import DEFAULT_MODEL
from beam_pipeline.process_pool import Allowance, Died, Worker
from beam_pipeline.read import Reading
from beam_pipeline.read_ahead import _lost
from beam_pipeline.records import Outcome, Ready, Source, Status
from benchmarks.examine import Examination
from benchmarks.mutate import mutated
from benchmarks.seeds import CANARY, seeds

_REJECTIONS = frozenset(map(str, Rejection))
_FAILURES = frozenset(map(str, Failure)) - {Failure.INTERNAL_ERROR}
# A process is found dead, and its successor started, some time after the deadline.
_TOLERANCE = 30.0
# What libraries map, and the stack, are no data: see `Limits.memory_bytes`.
_UNCOUNTED = 64 * 2**20
_SHARED_MEMORY = Path("/dev/shm")


@dataclass
class Figures:
    """What came of all inputs."""

    seed: int
    inputs: int = 0
    endings: Counter[str] = field(default_factory=collections.Counter)
    survived: Counter[str] = field(default_factory=collections.Counter)
    problems: dict[int, str] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, 0)
    largest: tuple[int, int] = (0, 0)
    seconds: float = 0.0

    def text(self) -> str:
        """For people, and for `docs/fuzzing.md`."""
        rate = self.inputs / max(self.seconds, 1e-9)
        lines = [
            f"seed {self.seed}: {self.inputs:,} inputs in {self.seconds:,.0f} s, "
            f"{rate:.0f} a second",
            f"slowest {self.slowest[0]:.2f} s (input {self.slowest[1]}), "
            f"largest process {self.largest[0] / 1e6:.0f} MB (input {self.largest[1]})",
        ]
        lines += [f"{n:>10,} {name}" for name, n in self.endings.most_common()]
        lines += [
            f"survived: {n:,} × {name}" for name, n in self.survived.most_common()
        ]
        lines += [f"PROBLEM, input {n}: {what}" for n, what in self.problems.items()]
        return "\n".join(lines)


class Fuzzer:
    """A process that reads inputs, one after the other.

    Args:
        seed: of the sequence of inputs.
        limits: what an input may cost.
        keep: where inputs that crashed, hung or failed are kept; None for nowhere.
    """

    def __init__(self, seed: int, limits: Limits, keep: Path | None = None) -> None:
        model = manifest.load(DEFAULT_MODEL)
        readings = (
            Reading(preparation=model.preparation, rules=Rules(()), limits=limits),
            Reading(
                preparation=model.preparation,
                rules=rules.compiled(model),
                limits=limits,
            ),
        )
        self._seeds = seeds()
        self._limits = limits
        self._keep = keep
        self._shape = (model.preparation.height, model.preparation.width, 1)
        self._worker = Worker(
            Examination(readings), Allowance(limits.seconds, limits.memory_bytes)
        )
        self._base: int | None = None
        self.figures = Figures(seed)

    def input(self, number: int) -> bytes:
        """The input of that number."""
        return mutated(self._seeds, Random(f"{self.figures.seed}/{number}"))

    def run(self, first: int, count: int) -> Figures:
        """Read `count` inputs from number `first` on."""
        clock = time.monotonic()
        folder = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
        with tempfile.TemporaryDirectory(dir=folder) as name:
            path = Path(name) / "input"
            for number in range(first, first + count):
                path.write_bytes(self.input(number))
                self._read(number, path)
                self.figures.seconds = time.monotonic() - clock
                if self.figures.inputs % 10_000 == 0:
                    print(self.figures.text(), end="\n\n", flush=True)
        self._worker.close()
        return self.figures

    def _read(self, number: int, path: Path) -> None:
        figures = self.figures
        clock = time.monotonic()
        source = Source(str(path), path.stat().st_size)
        found: Ready | Outcome = Outcome.of(source)
        crashed, memory = False, 0
        try:
            for message in self._worker.run((number % 2, source)):
                if isinstance(message, int):
                    memory = message
                else:
                    found = message
        except Died as death:
            found, crashed = _lost(found, death), True
        seconds = time.monotonic() - clock
        outcome = found.outcome if isinstance(found, Ready) else found
        ending = (
            "READY" if isinstance(found, Ready) else f"{found.status} {found.reason}"
        )
        figures.inputs += 1
        figures.endings[ending] += 1
        figures.slowest = max(figures.slowest, (seconds, number))
        figures.largest = max(figures.largest, (memory, number))
        problem = self._problem(found, seconds, memory)
        if problem:
            figures.problems[number] = problem
        if crashed:
            figures.survived[f"{outcome.reason}: {_decoder(outcome)}"] += 1
        if self._keep and (problem or crashed):
            self._keep.mkdir(parents=True, exist_ok=True)
            (self._keep / f"{number}-{outcome.reason}").write_bytes(path.read_bytes())

    def _problem(
        self, found: Ready | Outcome, seconds: float, memory: int
    ) -> str | None:
        """What is wrong with how an input ended; None where nothing is."""
        outcome = found.outcome if isinstance(found, Ready) else found
        if isinstance(found, Ready):
            image = found.image
            if (image.dtype, image.shape) != (np.uint8, self._shape):
                return f"the model input is {image.shape} of {image.dtype}"
        elif not _is_final(found):
            return f"{found.status} {found.reason}: {found.detail}"
        if CANARY in str(outcome).upper().encode():
            return "the row repeats what may be a patient's"
        if seconds > self._limits.seconds + _TOLERANCE:
            return f"it took {seconds:.1f} s"
        self._base = self._base or memory
        if memory > self._base + self._limits.memory_bytes + _UNCOUNTED:
            return f"it took {memory:,} bytes"
        return None


def _is_final(outcome: Outcome) -> bool:
    reasons = {Status.REJECTED: _REJECTIONS, Status.ERROR: _FAILURES}
    known = reasons.get(outcome.status) if outcome.status else None
    return known is not None and outcome.reason in known and bool(outcome.detail)


def _decoder(outcome: Outcome) -> str:
    return outcome.transfer_syntax_uid or outcome.format or "before the header"


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 where an input did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S")
    parser.add_argument("--keep", type=Path, metavar="DIR")
    given = parser.parse_args(arguments)
    limits = Limits(seconds=given.seconds)
    figures = Fuzzer(given.seed, limits, given.keep).run(given.first, given.inputs)
    print(figures.text())
    return 1 if figures.problems else 0


if __name__ == "__main__":
    sys.exit(main())
