"""One run at a time under an output: who holds it, and how others learn of it.

On a disk the kernel locks a file, and unlocks it when its process is gone, however it
went. A bucket has no locks: there a run renews a lease, and one that is renewed no more
is over. Who finds an output held does not wait for hours; the scheduler tries again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_pipeline import runs
from beam_pipeline.runs import Run

_LOGGER = logging.getLogger(__name__)

_RENEW_SECONDS = 15.0
# Six renewals that did not come.
_EXPIRE_SECONDS = 90.0
# What two need that begin at once, until each can read what the other wrote.
_SETTLE_SECONDS = 3.0


class Held(ValueError):
    """Another run holds the output."""


@contextmanager
def held(run: Run) -> Iterator[None]:
    """Hold the output of `run` for as long as the context lasts.

    Raises:
        Held: another run holds it; which one, and where it runs.
    """
    with _locked(run) if _on_disk(run) else _leased(run):
        yield


def require(run: Run) -> None:
    """Check that `run` still holds its output, before it publishes.

    On a cluster a job may outlive the process that started it, and held the output.

    Raises:
        Held: another run has taken the output over, or had, and has ended.
    """
    holder = _read(_path(run, "_lock" if _on_disk(run) else "_lease.json"))
    if holder is None and run.is_detached:
        return
    if holder is None:
        raise Held(f"run {run.run_id} no longer holds --output {run.output}")
    if holder.get("token") != run.token:
        raise Held(_message(run, holder))


@contextmanager
def _locked(run: Run) -> Iterator[None]:
    path = Path(_path(run, "_lock"))
    descriptor = _lock(path, run)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_holder(run)).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        with suppress(OSError):
            path.parent.rmdir()


def _lock(path: Path, run: Run) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        # Who held it before has just deleted the folder.
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(str(path))
            os.close(descriptor)
            raise Held(_message(run, holder or {})) from None
        # Who held it before may have unlinked it in between.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


@contextmanager
def _leased(run: Run) -> Iterator[None]:
    path = _path(run, "_lease.json")
    _await_expiry(path, run)
    lease = _Lease(path, run)
    lease.renew()
    time.sleep(_SETTLE_SECONDS)
    if not lease.is_held():
        raise Held(_message(run, _read(path) or {}))
    with lease.renewed():
        yield


def _await_expiry(path: str, run: Run) -> None:
    before = _read(path)
    if before is None:
        return
    _LOGGER.warning(
        "A lease of run %s lies on the output; if it is not renewed within %.0f s, "
        "that run is over",
        before.get("run_id"),
        _EXPIRE_SECONDS,
    )
    end = time.monotonic() + _EXPIRE_SECONDS
    while time.monotonic() < end:
        time.sleep(min(_RENEW_SECONDS, _EXPIRE_SECONDS) / 3)
        now = _read(path)
        if now is None:
            return
        if now != before:
            raise Held(_message(run, now))


class _Lease:
    """An object in the bucket: who holds the output, and that he still does."""

    def __init__(self, path: str, run: Run) -> None:
        self._path = path
        self._run = run
        self._renewals = 0

    def renew(self) -> None:
        self._renewals += 1
        said = {"renewals": self._renewals, **_holder(self._run)}
        runs.write_json(self._path, said)

    def is_held(self) -> bool:
        """Whether nobody else has taken it."""
        holder = _read(self._path)
        return holder is not None and holder.get("token") == self._run.token

    @contextmanager
    def renewed(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._keep, args=[over], daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with suppress(BeamIOError, OSError):
                if self.is_held():
                    FileSystems.delete([self._path])

    def _keep(self, over: threading.Event) -> None:
        while not over.wait(_RENEW_SECONDS):
            try:
                # A machine that was suspended wakes up when another has its place.
                if not self.is_held():
                    _LOGGER.error("Another run has taken the output over")
                    return
                self.renew()
            # The next one may come through; the night must not end with this one.
            except Exception as error:
                _LOGGER.warning("The lease was not renewed: %s", type(error).__name__)


def _holder(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "token": run.token,
        "host": platform.node(),
        "pid": os.getpid(),
    }


def _read(path: str) -> dict[str, Any] | None:
    if not FileSystems.exists(path):
        return None
    try:
        with FileSystems.open(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        ) as stream:
            holder: dict[str, Any] = json.loads(stream.read())
    # He is about to write it.
    except ValueError:
        return {}
    return holder


def _message(run: Run, holder: dict[str, Any]) -> str:
    where = f"{holder.get('host', '?')}, process {holder.get('pid', '?')}"
    return (
        f"--output {run.output} is held by run {holder.get('run_id', '?')} ({where}); "
        "let it end, or choose another output"
    )


def _on_disk(run: Run) -> bool:
    return FileSystems.get_scheme(run.output) is None


def _path(run: Run, name: str) -> str:
    return str(FileSystems.join(run.output, "_journal", name))
