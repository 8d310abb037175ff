"""ReadAhead: a bounded pool fetches, checks and decodes ahead of the model."""

from __future__ import annotations

import errno
import logging
import os
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue
from blake3 import blake3

from beam_pipeline import images
from beam_pipeline.errors import Failure, NotScored, Unreadable
from beam_pipeline.images import eligibility
from beam_pipeline.manifest import Manifest
from beam_pipeline.records import Outcome, Ready, Source

_LOGGER = logging.getLogger(__name__)

# A finished file waits as a model input of some 50 KB; a batch's worth for each thread
# keeps the threads busy while the model works on the batch before.
_AHEAD_PER_WORKER = 32


class ReadAhead(beam.DoFn):
    """`Source` → `Ready`, or a final `Outcome`; never an exception for a bad file.

    Files are read and decoded in a thread pool that all instances in a process share,
    so that its bounds do not multiply with the runner's threads. An instance emits its
    files in order, and only as many behind as the pool reads ahead.

    Args:
        manifest: of the model that the files are prepared for.
        workers: threads a process; None for one a core.
    """

    def __init__(self, manifest: Manifest, workers: int | None = None) -> None:
        super().__init__()
        self._manifest = manifest
        self._workers = workers
        self._shared = Shared()

    def setup(self) -> None:
        self._pool = self._shared.acquire(lambda: _Pool(self._workers))
        self._pending: deque[tuple[Future[Ready | Outcome], WindowedValue]] = deque()

    def process(
        self,
        source: Source,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[WindowedValue]:
        while not self._pool.free(wait=not self._pending):
            yield self._next()
        future = self._pool.submit(read, source, self._manifest)
        self._pending.append((future, WindowedValue(None, timestamp, (window,))))
        while self._pending and self._pending[0][0].done():
            yield self._next()

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
        outcome = future.result()
        self._pool.release()
        return place.with_value(outcome)


class _Pool:
    """Threads, and a bound on the files that were begun and not yet taken away."""

    def __init__(self, workers: int | None) -> None:
        threads = workers or len(os.sched_getaffinity(0))
        self._executor = ThreadPoolExecutor(threads, "read")
        self._slots = threading.Semaphore(threads * _AHEAD_PER_WORKER)

    def free(self, *, wait: bool) -> bool:
        """Take a slot. Who holds none may wait: those who do will release theirs."""
        return self._slots.acquire(blocking=wait)

    def release(self) -> None:
        self._slots.release()

    def submit(self, *call: Any) -> Future[Ready | Outcome]:
        return self._executor.submit(*call)


def read(source: Source, manifest: Manifest) -> Ready | Outcome:
    """The model input of one file, or the row that says why there is none.

    The header decides first: a file that it rules out is read no further.
    """
    outcome = Outcome.of(source)
    try:
        with open_source(source.uri) as stream:
            header = images.read_header(stream)
            outcome = outcome.with_header(header)
            verdicts = eligibility.check(header, manifest.eligibility)
            flags = eligibility.require(verdicts)
            stream.seek(0)
            data = stream.read()
        outcome = replace(outcome, source_digest=f"blake3:{blake3(data).hexdigest()}")
        picture = images.decode(data, header)
        outcome = replace(outcome, flags=flags + picture.flags, voi=picture.voi)
        return Ready(outcome, images.prepare(picture.pixels, manifest.preparation))
    except NotScored as error:
        return outcome.ended(error)
    except OSError as error:
        return outcome.ended(_read_failed(error))
    # A defect of ours must not cost a hospital its night; it costs this file, loudly.
    except Exception as error:
        return outcome.ended(_internal_error(error))


def open_source(uri: str) -> BinaryIO:
    """The bytes of `uri` as a seekable stream; never decompressed by its name."""
    scheme = FileSystems.get_scheme(uri)
    if scheme in (None, "file"):
        path = unquote_to_bytes(uri.removeprefix("file://")) if scheme else uri
        # Opening a FIFO would wait for somebody to write to it.
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError(errno.EINVAL, "not a regular file")
        return open(path, "rb")
    stream: BinaryIO = FileSystems.open(
        uri, compression_type=CompressionTypes.UNCOMPRESSED
    )
    return stream


def _read_failed(error: OSError) -> Unreadable:
    # The message of an OSError holds the path, which may hold a name.
    known = os.strerror(error.errno) if error.errno else type(error).__name__
    return Unreadable(Failure.READ_FAILED, known)


def _internal_error(error: Exception) -> Unreadable:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(place.filename)}:{place.lineno}"
    detail = f"{type(error).__name__} in {where}; please report it"
    _LOGGER.error("A file met a defect of this program: %s", detail)
    return Unreadable(Failure.INTERNAL_ERROR, detail)
