"""One command in a process of its own: how long it took, what memory it held."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from benchmarks import watched

# Where pages are counted one by one (`watched.pss`) a look at 3 GB takes 27 ms of one
# core; this takes some microseconds a process, and to find the processes takes longest.
_INTERVAL = 0.05
_LOOKS_AT_ONE_FAMILY = 5
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Measured:
    """What a process did.

    Attributes:
        returncode: minus the signal that ended it.
        stdout: what it printed.
        stderr: what it complained of.
        seconds: from its start to its end.
        cpu_seconds: of it and of those it started and waited for.
        peak_bytes: of its memory and that of all it started, what they share once.
    """

    returncode: int
    stdout: str
    stderr: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run(command: Sequence[str], timeout: float = 3600) -> Measured:
    """Run `command` and watch it; after `timeout` seconds kill it and its children."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": "."}
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        before = os.times()
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, env=environment
        )
        watch = _Watch(process.pid, timeout)
        returncode = process.wait()
        seconds = time.perf_counter() - started
        peak = watch.end()
        after = os.times()
        return Measured(
            returncode,
            _text(stdout),
            _text(stderr),
            seconds,
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system,
            peak,
        )


def memory(processes: Sequence[int]) -> int:
    """Bytes that they hold: what each has alone, and the largest part that one shares.

    Two that share different things are counted too low, which a peer has the good of.
    """
    private, shared = 0, [0]
    for process in processes:
        try:
            fields = Path(f"/proc/{process}/statm").read_text().split()
        except OSError:
            continue
        resident, common = int(fields[1]), int(fields[2])
        private += resident - common
        shared.append(common)
    return _PAGE * (private + max(shared))


class _Watch:
    """A thread that looks at a process and its children until it is told to end."""

    def __init__(self, process: int, timeout: float) -> None:
        self._process = process
        self._deadline = time.monotonic() + timeout
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """The most that was seen, in bytes."""
        self._done.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        looks, family = 0, [self._process]
        while not self._done.wait(_INTERVAL):
            if looks % _LOOKS_AT_ONE_FAMILY == 0:
                family = watched.tree(self._process)
            looks += 1
            self._peak = max(self._peak, memory(family))
            if time.monotonic() > self._deadline:
                self._kill()
                return

    def _kill(self) -> None:
        # Parents first: one whose child was killed could still end by itself.
        for process in watched.tree(self._process):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _text(stream: BinaryIO) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")
