"""Processes that do one thing to many items, each item under a deadline.

A decoder that hangs or crashes on hostile bytes takes its process with it, and nothing
else: a thread could be neither killed nor outlived. Processes are started afresh, not
forked, because a copy of one in which TensorFlow runs is not safe to use.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from beam_pipeline import memory

_SERVE = "import sys; from beam_pipeline.process_pool import serve; serve(sys.argv[1])"
# What items may leave behind, of what the next one may take: one in so many parts.
_LEFT_BEHIND = 4
# The exit status of a process that had not the memory left to say so.
_OUT_OF_MEMORY = 12
_START_SECONDS = 300.0
# A process that the kernel cannot end, because its disk does not answer, is left alone.
_GRACE_SECONDS = 10.0
# Decoders leak: a new process after so many items.
_ITEMS_A_PROCESS = 5_000

# Several processes share the cores; no library in them is to start threads of its own,
# or to keep what it was given back: Arrow would begin with a reserve of a gigabyte.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    **memory.ENVIRONMENT,
}


class _Word(Enum):
    """What a process says beside the messages of its task."""

    READY = auto()
    DONE = auto()
    # The same, and that it takes no other item.
    SPENT = auto()


Task = Callable[[Any], Iterator[Any]]
Preparation = Callable[[], None]


class Died(RuntimeError):
    """The process ended on an item.

    Attributes:
        timed_out: whether it had used up its time.
        out_of_memory: whether it had used up its memory; else it crashed.
        signal: which signal ended it, where one did.
    """

    def __init__(self, returncode: int | None) -> None:
        super().__init__(f"the process ended with {returncode}")
        self.timed_out = returncode is None or returncode == -signal.SIGALRM
        self.out_of_memory = returncode == _OUT_OF_MEMORY
        self.signal = None if returncode is None or returncode >= 0 else -returncode


@dataclass(frozen=True)
class Allowance:
    """What one item may cost: seconds, and bytes of memory upon the process's own."""

    seconds: float
    memory_bytes: int


class Worker:
    """One process at a time that runs `task` on items.

    Args:
        task: a picklable function from an item to messages about it.
        allowance: of each item.
        prepare: what the process does once, before it is limited: what it needs for all
            items is no item's cost.
    """

    def __init__(
        self, task: Task, allowance: Allowance, prepare: Preparation | None = None
    ) -> None:
        self._task = task
        self._allowance = allowance
        self._prepare = prepare
        self._start()

    def run(self, item: Any) -> Generator[Any, None, None]:
        """The messages of `task` about `item`, as they come.

        Raises:
            Died: the process ended; the messages until then were given. The next item
                finds a new process.
        """
        # One that ended while it was idle says nothing about the next item.
        if self._items >= _ITEMS_A_PROCESS or self._process.poll() is not None:
            self.close()
        if not self._close.alive:
            self._start()
        self._await_ready()
        self._items += 1
        try:
            self._connection.send(item)
            while not isinstance(message := self._receive(), _Word):
                yield message
            if message is _Word.SPENT:
                self.close()
        except (EOFError, OSError) as error:
            raise Died(self._ended()) from error
        except BaseException:
            # Who stops listening would leave the rest of the messages to the next item.
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        self._close()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            # A library that sets a default timeout for sockets makes them all
            # non-blocking, which a Connection does not expect.
            end.setblocking(True)
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-P", "-c", _SERVE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    **_ENVIRONMENT,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
        self._process = process
        self._connection = Connection(ours.detach())
        self._close = weakref.finalize(self, _end, process, self._connection)
        self._items = 0
        self._is_ready = False
        self._connection.send((self._task, self._allowance, self._prepare))

    def _await_ready(self) -> None:
        if self._is_ready:
            return
        try:
            if not self._connection.poll(_START_SECONDS):
                raise TimeoutError
            self._is_ready = self._connection.recv() is _Word.READY
        except (EOFError, OSError) as error:
            self.close()
            raise RuntimeError(
                "a process for reading files did not start; what it said stands above"
            ) from error

    def _receive(self) -> Any:
        if not self._connection.poll(self._allowance.seconds + _GRACE_SECONDS):
            raise TimeoutError
        return self._connection.recv()

    def _ended(self) -> int | None:
        """The exit status of a process that said nothing more; None where it hung."""
        try:
            return self._process.wait(_GRACE_SECONDS / 2)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.close()


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    connection.close()
    process.kill()
    try:
        process.wait(_GRACE_SECONDS / 2)
    except subprocess.TimeoutExpired:
        # It waits for a disk that does not answer, and goes when that does.
        process.returncode = -signal.SIGKILL


def serve(descriptor: str) -> None:
    """The life of a worker process: items from the socket, messages back."""
    connection = Connection(int(descriptor))
    task, allowance, prepare = connection.recv()
    if prepare is not None:
        prepare()
    used = _data_bytes()
    _confine(allowance, used)
    connection.send(_Word.READY)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        # The default action of SIGALRM ends the process, also within native code, and
        # also when nobody waits for it any more.
        signal.setitimer(signal.ITIMER_REAL, allowance.seconds)
        try:
            for message in task(item):
                connection.send(message)
        except MemoryError:
            os._exit(_OUT_OF_MEMORY)
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(_Word.SPENT if _is_spent(allowance, used) else _Word.DONE)


def _is_spent(allowance: Allowance, used: int | None) -> bool:
    """Whether the items until now left the next one too little of its memory.

    What was freed is not always given back: an item that needed all that it may would
    cost the next ones their result.
    """
    if used is None:
        return False

    def is_too_much() -> bool:
        return (_data_bytes() or 0) - used > allowance.memory_bytes // _LEFT_BEHIND

    if not is_too_much():
        return False
    # Not each time: that takes as long as many items do.
    gc.collect()
    memory.trim()
    return is_too_much()


def _confine(allowance: Allowance, used: int | None) -> None:
    # Sent to a whole group, they would look like a crash; it ends with its parent.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # A core file would hold a patient's image.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if used is not None:
        limit = used + allowance.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    silent = os.open(os.devnull, os.O_WRONLY)
    # What native decoders print of a broken file helps nobody.
    os.dup2(silent, 1)
    os.dup2(silent, 2)


def _data_bytes() -> int | None:
    """The private memory that this process has now; None where Linux does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except OSError:
        return None
    return pages * resource.getpagesize()
