"""How a run of `score` ends, for schedulers and logs: exit codes, signals, one line."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from types import FrameType
from typing import Any

_BARE = re.compile(r"[^\s\"=]+")


class ExitCode(IntEnum):
    """What the README lists; those of signals are 128 and the signal, as of a shell."""

    COMPLETE = 0
    FAILED = 1
    REFUSED = 2
    LIMIT_BROKEN = 3
    NOTHING_MATCHED = 4
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended.

    Attributes:
        exit_code: of the process.
        run_id: of the run; None where it had none yet.
        seconds: that the process took.
        output: where runs are written; None where it is not known or not to be told.
        record: what `run.json` says; of a run that is not complete, what is known.
    """

    exit_code: ExitCode
    run_id: str | None = None
    seconds: float = 0.0
    output: str | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


class NothingMatched(Exception):
    """No file matches any of the patterns."""


class Stopped(BaseException):
    """A signal asked for an end.

    Attributes:
        exit_code: what the process is to end with.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = ExitCode(128 + number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is done here.

    Raises:
        Stopped: one of them came.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell's background jobs ignore Ctrl-C.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def line(ending: Ending) -> str:
    """`ending` as `key=value`s, for who searches logs; no value is of a patient."""
    record = ending.record
    values: dict[str, Any] = {
        "run_id": ending.run_id,
        "status": ending.exit_code.name.lower(),
        "exit_code": int(ending.exit_code),
        "listed": record.get("listed"),
    }
    for status, files in record.get("statuses", {}).items():
        values[status.lower()] = files
    values |= {
        "carried": record.get("carried"),
        "studies": record.get("studies"),
        "seconds": f"{ending.seconds:.1f}",
        "files_per_second": _rate(ending),
        "device_idle": _device_idle(record),
        "output": ending.output,
    }
    told = [f"{k}={_quoted(str(v))}" for k, v in values.items() if v is not None]
    return " ".join(["radiograph-scorer", *told])


def _rate(ending: Ending) -> str | None:
    listed = ending.record.get("listed")
    return f"{listed / ending.seconds:.2f}" if listed and ending.seconds else None


def _device_idle(record: Mapping[str, Any]) -> str | None:
    inference = record.get("inference")
    return inference and f"{inference['idle_share']:.3f}"


def _quoted(text: str) -> str:
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
