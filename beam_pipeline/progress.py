"""How far the job has come: a bar on a terminal; in a log, a line a minute."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Task, TextColumn
from rich.progress import Progress as Bar

from beam_pipeline import counts
from beam_pipeline.records import Status

_LOGGER = logging.getLogger(__name__)

LOG_SECONDS = 60.0
_LOOK_SECONDS = 0.5
# Files that an earlier run knows go by fast; the rate is of the last minute.
_RATE_SECONDS = 60.0


class Progress:
    """Shows what DoFns in this process count, until it is left.

    It says nothing where they count elsewhere: those runners have pages of their own,
    which show the same counts.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._on_terminal = sys.stderr.isatty() and not console.is_dumb_terminal
        self._bar = Bar(
            BarColumn(bar_width=10),
            TextColumn("{task.description}"),
            console=console,
            disable=not self._on_terminal,
            speed_estimate_period=_RATE_SECONDS,
        )
        self._before = counts.here()
        self._task = self._bar.add_task("", total=None, visible=False)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        stderr = sys.stderr
        self._bar.start()
        # What is logged goes above the bar.
        _redirect_log(stderr, sys.stderr)
        _LOGGER.setLevel(logging.INFO)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        self._thread.join()
        self._look()
        above = sys.stderr
        self._bar.stop()
        _redirect_log(above, sys.stderr)

    def _watch(self) -> None:
        logged = time.monotonic()
        while not self._left.wait(min(_LOOK_SECONDS, LOG_SECONDS)):
            task = self._look()
            is_due = time.monotonic() - logged >= LOG_SECONDS
            if is_due and task.visible and not self._on_terminal:
                _LOGGER.info("%s", task.description)
                logged = time.monotonic()

    def _look(self) -> Task:
        counted = counts.here() - self._before
        done = _done(counted)
        self._bar.update(
            self._task,
            # All files are found before the first has its row.
            total=counted[counts.FOUND] if done else None,
            completed=done,
            visible=counted.total() > 0,
        )
        [task] = self._bar.tasks
        self._bar.update(self._task, description=_text(counted, task))
        return task


def _redirect_log(before: object, now: object) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is before:
            handler.setStream(now)


def _done(counted: Counter[str]) -> int:
    return sum(counted[name] for name in (*Status, counts.CARRIED))


def _text(counted: Counter[str], task: Task) -> str:
    done, found = _done(counted), counted[counts.FOUND]
    if not done:
        return f"{found:,} files found"
    if done == found:
        return f"{done:,} files done, writing the tables"
    names = [*Status, counts.CARRIED]
    of_each = [f"{counted[name]:,} {name}" for name in names if counted[name]]
    rate = "" if task.speed is None else f", {task.speed:,.1f}/s"
    seconds = task.time_remaining
    left = "" if seconds is None else f", {timedelta(seconds=seconds)} left"
    return f"{done:,} of {found:,} files{rate}{left}: {', '.join(of_each)}"
