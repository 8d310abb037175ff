"""What became of files, counted: as Beam's metrics, and for who watches here."""

from __future__ import annotations

import functools
import threading
from collections import Counter

from apache_beam.metrics import Metrics

# What a pattern or a list names; a file that two of them name counts twice.
FOUND = "found"
# Files that are to have a row.
LISTED = "listed"
# Rows whose score an earlier run gave.
CARRIED = "carried"

_NAMESPACE = "beam_pipeline"

_here: Counter[str] = Counter()
_lock = threading.Lock()


def count(name: str, number: int = 1) -> None:
    """So many more of `name`; called within a DoFn."""
    _counter(name).inc(number)
    with _lock:
        _here[name] += number


def here() -> Counter[str]:
    """What DoFns in this process counted since it began.

    Runners give metrics when a job has ended. The in-process one works in this process,
    so that its counts can be watched; others leave nothing here.
    """
    with _lock:
        return Counter(_here)


@functools.cache
def _counter(name: str) -> Metrics.DelegatingCounter:
    return Metrics.counter(_NAMESPACE, name)
