"""ReadAhead: a bounded pool fetches, checks and decodes ahead of the model."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from queue import SimpleQueue
from typing import Any

import apache_beam as beam
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from beam_pipeline import storage
from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.manifest import Preparation
from beam_pipeline.process_pool import Allowance, Died, Worker
from beam_pipeline.read import Reading
from beam_pipeline.records import Outcome, Ready, Source

_LOGGER = logging.getLogger(__name__)

# What may wait in front of the model: finished files are model inputs, a byte a pixel,
# and whatever else was begun is smaller here. It is more than the model takes at once,
# so that reading goes on while the model works: 668 inputs of 224 × 224.
AHEAD_BYTES = 32 * 2**20
# Of very large inputs, what a process works on and what it has just finished.
_LEAST_PER_WORKER = 2


class ReadAhead(beam.DoFn):
    """`Source` → `Ready`, or a final `Outcome`; never an exception for a bad file.

    Files are read and decoded in a pool that all instances in a process share, so that
    its bounds do not multiply with the runner's threads. An instance emits its files in
    order, and only as many behind as the pool reads ahead.

    Args:
        reading: how files are read.
        workers: processes for it; None for one a core.
        expect: is called when a file is being decoded that will need the model, before
            its model input is there; again for each.
    """

    def __init__(
        self,
        reading: Reading,
        workers: int | None = None,
        expect: Callable[[], object] | None = None,
    ) -> None:
        super().__init__()
        self._reading = reading
        self._workers = workers
        self._expect = expect
        self._shared = Shared()
        self._pending: deque[tuple[Future[Ready | Outcome], WindowedValue]] = deque()

    def setup(self) -> None:
        self._pool = self._shared.acquire(lambda: _Pool(self._reading, self._workers))

    def process(
        self,
        source: Source,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[WindowedValue]:
        # A file is taken away only to make room for another, so that the pool is full
        # whenever the model is called: that happens within `yield`.
        while not self._pool.free(wait=not self._pending):
            yield self._next()
        future = self._pool.submit(source, self._expect)
        self._pending.append((future, WindowedValue(None, timestamp, (window,))))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._pending:
            yield self._next()

    def teardown(self) -> None:
        # What a failed bundle left behind would keep its slots, and the bundle that is
        # tried again in this process would wait for them for ever.
        while self._pending:
            self._pending.popleft()[0].cancel()
            self._pool.release()

    def _next(self) -> WindowedValue:
        future, place = self._pending.popleft()
        try:
            return place.with_value(future.result())
        finally:
            self._pool.release()


class _Pool:
    """Threads that each hand files to a process of their own, and a bound.

    The bound is on the files that were begun and not yet taken away: on the bytes that
    they are once they are finished. What reading them takes is in the processes, a file
    in each, within the limits of one file.
    """

    def __init__(self, reading: Reading, workers: int | None) -> None:
        count = workers or len(os.sched_getaffinity(0))
        limits = reading.limits
        allowance = Allowance(limits.seconds, limits.memory_bytes)
        prepare = partial(storage.prepare, reading.storage)
        self._executor = ThreadPoolExecutor(count, "read")
        self._slots = threading.Semaphore(slots(reading.preparation, count))
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for _ in range(count):
            self._idle.put(Worker(reading, allowance, prepare))

    def free(self, *, wait: bool) -> bool:
        """Take a slot. Who holds none may wait: those who do will release theirs."""
        return self._slots.acquire(blocking=wait)

    def release(self) -> None:
        self._slots.release()

    def submit(
        self, source: Source, expect: Callable[[], object] | None
    ) -> Future[Ready | Outcome]:
        return self._executor.submit(_read, source, self._idle, expect)


def slots(preparation: Preparation, workers: int) -> int:
    """How many files may be begun and not yet taken away."""
    ahead = AHEAD_BYTES // (preparation.height * preparation.width)
    return max(ahead, workers * _LEAST_PER_WORKER)


def _read(
    source: Source, idle: SimpleQueue[Worker], expect: Callable[[], object] | None
) -> Ready | Outcome:
    worker = idle.get()
    found: Ready | Outcome = Outcome.of(source)
    try:
        # Closed before the next file has the worker, whatever happens here.
        with closing(worker.run(source)) as messages:
            for message in messages:
                found = message
                if expect is not None and _is_promising(source, found):
                    expect()
    except Died as death:
        found = _lost(found, death)
    finally:
        idle.put(worker)
    if isinstance(found, Outcome) and found.reason == Failure.INTERNAL_ERROR:
        _LOGGER.error("A file met a defect of this program: %s", found.detail)
    return found


def _is_promising(source: Source, found: Ready | Outcome) -> bool:
    """Whether a file was read whole, and no earlier run knows anything of its content.

    What one knows and has not scored could not be decoded, and hardly will be now.
    """
    return isinstance(found, Outcome) and (
        found.status is None
        and found.source_digest is not None
        and found.probabilities is None
        and source.digest is None
    )


def _lost(found: Ready | Outcome, death: Died) -> Outcome:
    """The row of a file that took its process with it, as far as it was known."""
    outcome = found.outcome if isinstance(found, Ready) else found
    if death.timed_out:
        return outcome.ended(
            Unreadable(Failure.TIMEOUT, "it took longer than a file may take")
        )
    if death.out_of_memory:
        return outcome.ended(
            Unreadable(Failure.TOO_LARGE, "it needs more memory than a file may take")
        )
    _LOGGER.warning("A file ended the process that read it (signal %s)", death.signal)
    return outcome.ended(
        Unreadable(
            Failure.DECODER_CRASHED, f"its decoder crashed (signal {death.signal})"
        )
    )
