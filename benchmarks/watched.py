"""A run of the command line in a process of its own, with its memory watched."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Asking the kernel for a process's memory costs that process time.
_INTERVAL = 0.25


@dataclass(frozen=True)
class Finished:
    """What a run left, and what it took.

    Attributes:
        returncode: of the process; minus the signal that ended it.
        printed: on both of its streams.
        seconds: from its start to its end.
        cpu_seconds: of its processors' time, with all processes that it started.
        peak: of its memory and that of all processes that it started, in bytes.
        peak_of_one_child: of the largest of those that it started.
    """

    returncode: int
    printed: str
    seconds: float
    cpu_seconds: float
    peak: int
    peak_of_one_child: int


def run(*arguments: str, kill_when: Callable[[], bool] | None = None) -> Finished:
    """Run `python -m beam_pipeline` with `arguments`; kill it when that comes true."""
    clock, used = time.monotonic(), _cpu_seconds()
    process = subprocess.Popen(
        [sys.executable, "-m", "beam_pipeline", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    sums, largest = [0], [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_INTERVAL):
            parts = [pss(each) for each in tree(process.pid)]
            sums.append(sum(parts))
            largest.append(max(parts[1:], default=0))
            if kill_when is not None and kill_when():
                process.send_signal(signal.SIGKILL)

    watcher = threading.Thread(target=watch)
    watcher.start()
    printed, _ = process.communicate()
    done.set()
    watcher.join()
    return Finished(
        process.returncode,
        printed.decode(errors="replace"),
        time.monotonic() - clock,
        _cpu_seconds() - used,
        max(sums),
        max(largest),
    )


def _cpu_seconds() -> float:
    """That all children which have ended took, and theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def pss(process: int) -> int:
    """The memory of a process in bytes; shared pages are divided among its sharers."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def tree(process: int) -> list[int]:
    """A process and all that it started."""
    found = [process]
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = listed.read_text().split()
        except OSError:
            continue
        found += [each for child in children for each in tree(int(child))]
    return found
