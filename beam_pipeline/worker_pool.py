"""A pool that starts workers for a runner: the server of EXTERNAL environments.

Beam's own pool loses track where two runners on one machine ask it: each counts its
workers from 1, so that one's "stop 1-1" ends the other's worker. Nor does it end its
workers when it is told to end.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_api_grpc

_LOGGER = logging.getLogger(__name__)

_SERVED, _REFUSED = 0, 2
_GRACE_SECONDS = 10
_ENDPOINTS = ("provision", "control", "logging", "artifact")

Worker = subprocess.Popen[bytes]


class WorkerPool(fn_api_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts a process for each worker that a runner asks for.

    Args:
        command: that of a worker, to which its flags are added.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        super().__init__()
        self._command = command
        self._lock = threading.Lock()
        self._workers: list[Worker] = []

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
        flags = [f"--id={request.worker_id}"]
        for name in _ENDPOINTS:
            if url := getattr(request, f"{name}_endpoint").url:
                flags.append(f"--{name}_endpoint={url}")
        try:
            worker = subprocess.Popen(  # noqa: S603
                [*self._command, *flags], stdin=subprocess.DEVNULL
            )
        except OSError as error:
            return fn_api.StartWorkerResponse(error=f"no worker could start: {error}")
        with self._lock:
            # Asking for their exit status also frees those that have ended.
            self._workers = [each for each in self._workers if each.poll() is None]
            self._workers.append(worker)
        _LOGGER.info("Worker %s is process %d", request.worker_id, worker.pid)
        return fn_api.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
        # The name may be that of another runner's worker too, and it says no more. The
        # one that is meant has lost its control channel, and ends because of that.
        return fn_api.StopWorkerResponse()

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            workers = list(self._workers)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            try:
                worker.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def serve(host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    logging.getLogger().setLevel(logging.INFO)
    pool = WorkerPool((sys.executable, "-m", "beam_pipeline.worker"))
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    fn_api_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        print(
            f"beam-pipeline-worker: --pool {port} on --host {host} cannot be listened "
            "on: is a pool running already?",
            file=sys.stderr,
        )
        return _REFUSED
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    server.start()
    _LOGGER.info("Workers are started for those who ask at %s:%d", host, bound)
    asked.wait()
    server.stop(grace=None)
    pool.close()
    return _SERVED
