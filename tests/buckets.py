"""Real servers of both APIs on loopback, and a proxy before them that causes faults."""

from __future__ import annotations

import contextlib
import functools
import http.client
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

_NOT_FORWARDED = {"connection", "transfer-encoding", "content-length", "keep-alive"}
FOR_EVER = 10**9


@dataclass(frozen=True)
class Request:
    """A request as the proxy saw it.

    Attributes:
        method: its HTTP method.
        path: path and query, unquoted.
        range: its Range header.
        condition: its If-Match header.
        status: that was answered; None where the connection was cut.
        sent: bytes of the body that went out.
        client: address of the connection.
    """

    method: str
    path: str
    range: str | None
    condition: str | None
    status: int | None
    sent: int
    client: tuple[str, int]


@dataclass
class Trouble:
    """What befalls reads of an object, so many times.

    Attributes:
        status: is answered instead, where given.
        cut_after: bytes of the body after which the connection ends, where given.
        reset: whether it ends by a reset.
        slow: seconds before the answer.
        first: is called before the request is passed on.
        times: how often.
    """

    status: int | None = None
    cut_after: int | None = None
    reset: bool = True
    slow: float = 0
    first: Callable[[], object] | None = None
    times: int = 1


@dataclass
class Proxy:
    """Passes everything on to `upstream`, writes it down, and causes trouble.

    Attributes:
        upstream: host and port.
        troubles: by a piece of the path of the object.
        seen: every request.
    """

    upstream: tuple[str, int]
    troubles: dict[str, Trouble] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reads(self, name: str) -> list[Request]:
        """The requests for bytes of the object whose path ends so."""
        return [
            each
            for each in self.seen
            if each.method == "GET" and each.range and f"/{name}" in each.path
        ]

    def trouble(self, method: str, path: str, ranged: bool) -> Trouble:
        if method == "GET" and ranged:
            for piece, trouble in self.troubles.items():
                if piece in path and trouble.times > 0:
                    trouble.times -= 1
                    return trouble
        return Trouble()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy

    def log_message(self, *_: Any) -> None: ...

    def _pass_on(self) -> None:
        path = unquote(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        ranged = self.headers.get("Range")
        trouble = self.proxy.trouble(self.command, path, bool(ranged))
        time.sleep(trouble.slow)
        if trouble.first is not None:
            trouble.first()
        status, headers, data = self._asked(body)
        if trouble.status is not None:
            status, headers, data = trouble.status, [], b""
        cut = trouble.cut_after is not None and trouble.cut_after < len(data)
        sent = data[: trouble.cut_after] if cut else data
        self.proxy.seen.append(
            Request(
                self.command,
                path,
                ranged,
                self.headers.get("If-Match"),
                None if cut else status,
                len(sent),
                self.client_address,
            )
        )
        self.send_response_only(status)
        length = str(len(data))
        for name, value in headers:
            if self.command == "HEAD" and name.lower() == "content-length":
                length = value
            elif name.lower() not in _NOT_FORWARDED:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        with contextlib.suppress(OSError):
            self.end_headers()
            self.wfile.write(sent)
        self.close_connection |= cut
        if cut and trouble.reset:
            # Now, and so that the other side sees no orderly end.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(*self.proxy.upstream, timeout=60)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _NOT_FORWARDED
        }
        headers |= {"Content-Length": str(len(body)), "Connection": "close"}
        try:
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            upstream.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815


_numbers = itertools.count()


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own for a test, reached through a proxy of its own.

    Attributes:
        scheme: `s3` or `gs`.
        name: of the bucket.
        proxy: what stands before the server.
        put: key and bytes → stored.
        delete: key → gone.
        names: the keys that there are.
    """

    scheme: str
    name: str
    proxy: Proxy
    put: Callable[[str, bytes], object]
    delete: Callable[[str], object]
    names: Callable[[], list[str]]

    def uri(self, key: str) -> str:
        return f"{self.scheme}://{self.name}/{key}"


@contextlib.contextmanager
def s3_server() -> Iterator[tuple[str, int]]:
    """moto's server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@contextlib.contextmanager
def gcs_server() -> Iterator[tuple[str, int]]:
    """gcp-storage-emulator, in memory."""
    from gcp_storage_emulator.server import create_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True)
    server.start()
    yield "127.0.0.1", port
    server.stop()


@functools.lru_cache
def _s3_client(url: str) -> Any:
    import boto3

    return boto3.session.Session().client("s3", endpoint_url=url)


@functools.lru_cache
def _gcs_client(url: str) -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    options = {"api_endpoint": url}
    return storage.Client("test", AnonymousCredentials(), client_options=options)


def s3_bucket(proxy: Proxy) -> Bucket:
    """A new bucket; the environment names the proxy as the endpoint."""
    client = _s3_client(proxy.url)
    name = f"bucket-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    return Bucket(
        "s3",
        name,
        proxy,
        lambda key, data: client.put_object(Bucket=name, Key=key, Body=data),
        lambda key: client.delete_object(Bucket=name, Key=key),
        lambda: [
            each["Key"]
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=name)
            for each in page.get("Contents", ())
        ],
    )


def gcs_bucket(proxy: Proxy) -> Bucket:
    """A new bucket; the environment names the proxy as the emulator."""
    client = _gcs_client(proxy.url)
    bucket = client.create_bucket(f"bucket-{next(_numbers)}")
    return Bucket(
        "gs",
        bucket.name,
        proxy,
        lambda key, data: bucket.blob(key).upload_from_string(data),
        lambda key: bucket.blob(key).delete(),
        lambda: [blob.name for blob in client.list_blobs(bucket)],
    )
