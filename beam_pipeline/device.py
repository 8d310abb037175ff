"""The device that a process computes on: what it takes at once, how its time goes.

The model handler knows it, and the step that writes rows hands it on: both work in one
fused stage, in one process, and know each other by the run.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Device:
    """What a model runs on.

    Attributes:
        name: as its maker calls it; `CPU` for all cores together.
        batch_size: images that the model sees at once.
        batches_a_call: batches that one call of the handler should bring.
    """

    name: str
    batch_size: int
    batches_a_call: int = 1


@dataclass(frozen=True)
class DeviceTime:
    """How the time of devices went, from a first batch's start to a last one's end.

    Attributes:
        devices: their names, each with its batch size.
        batches: how many they were given.
        busy: microseconds in which they had a batch, or several at once.
        idle: microseconds in which they had none and waited for the next.
    """

    devices: frozenset[tuple[str, int]] = frozenset()
    batches: int = 0
    busy: int = 0
    idle: int = 0

    def __add__(self, other: DeviceTime) -> DeviceTime:
        return DeviceTime(
            self.devices | other.devices,
            self.batches + other.batches,
            self.busy + other.busy,
            self.idle + other.idle,
        )

    @property
    def document(self) -> dict[str, Any] | None:
        """What `run.json` says of it; None where the model saw nothing."""
        if not self.batches:
            return None
        return {
            "devices": [
                {"device": name, "batch_size": size}
                for name, size in sorted(self.devices)
            ],
            "batches": self.batches,
            "busy_seconds": self.busy / 1e6,
            "idle_seconds": self.idle / 1e6,
            "idle_share": self.idle / max(self.busy + self.idle, 1),
        }


class Stopwatch:
    """Measures how a device's time goes; any number of threads may give it batches.

    A batch is with the device from when it is handed over until its outcome was
    fetched. Where batches overlap, the time counts once.
    """

    def __init__(
        self, device: Device, now: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self._devices = frozenset({(device.name, device.batch_size)})
        self._now = now
        self._lock = threading.Lock()
        self._running = 0
        self._since: int | None = None
        self._batches = self._busy = self._idle = 0

    def start(self) -> None:
        """A batch is handed over."""
        with self._lock:
            self._advance()
            self._running += 1
            self._batches += 1

    def stop(self) -> None:
        """The outcome of one was fetched, or it failed."""
        with self._lock:
            self._advance()
            self._running -= 1

    def read(self) -> DeviceTime:
        """What has gone by since this was last asked for."""
        with self._lock:
            # What comes after the last batch is nobody's waiting, until there is a
            # next one.
            if self._running:
                self._advance()
            # Below a microsecond is kept for the next time.
            busy, self._busy = divmod(self._busy, 1000)
            idle, self._idle = divmod(self._idle, 1000)
            batches, self._batches = self._batches, 0
        return DeviceTime(self._devices, batches, busy, idle)

    def _advance(self) -> None:
        now = self._now()
        gone_by = 0 if self._since is None else now - self._since
        if self._running:
            self._busy += gone_by
        else:
            self._idle += gone_by
        self._since = now


_lock = threading.Lock()
_devices: dict[str, Device] = {}
_untold: defaultdict[str, DeviceTime] = defaultdict(DeviceTime)


def begin(run_id: str, device: Device) -> Stopwatch:
    """This process scores on `device` for a run from now on."""
    with _lock:
        _devices[run_id] = device
    return Stopwatch(device)


def of(run_id: str) -> Device | None:
    """The device on which this process scores for a run; None until that is known."""
    return _devices.get(run_id)


def tell(run_id: str, gone_by: DeviceTime) -> None:
    """Keep what has gone by, for who writes the run's rows."""
    with _lock:
        _untold[run_id] += gone_by


def told(run_id: str) -> DeviceTime:
    """What has gone by for a run in this process since this was last asked for."""
    with _lock:
        return _untold.pop(run_id, DeviceTime())
