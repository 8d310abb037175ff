"""Amazon S3, and what speaks its protocol, by boto3."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC
from functools import lru_cache, partial
from typing import Any, BinaryIO, cast

from beam_pipeline.records import Source
from beam_pipeline.storage import faults, listing
from beam_pipeline.storage.faults import Changed, Denied, Fault, Gone
from beam_pipeline.storage.listing import Page, Pages
from beam_pipeline.storage.ranged import Piece, RangedReader
from beam_pipeline.storage.settings import Settings

_CONNECT_SECONDS = 10
_READ_SECONDS = 20
_ATTEMPTS = 5
_CONNECTIONS = 32
_FIRST_WAIT_SECONDS = 0.5
_CHUNK_BYTES = 2**20
_PAGE_KEYS = 1000
_making = threading.Lock()


def open(source: Source, settings: Settings) -> BinaryIO:
    """The bytes of an object, by ranges."""
    return cast(BinaryIO, RangedReader(source, partial(_fetch, source.uri, settings)))


def find(uri: str, settings: Settings) -> Source:
    """The object as listing would give it.

    Raises:
        Fault: it is not there, or may not be asked for.
    """
    with _faults():
        found = client(settings).head_object(**_named(uri))
    return _source(uri, found["ContentLength"], found)


def normalise(pattern: str, settings: Settings) -> str:
    """`pattern`, where a name stands for its object and a folder for all in it."""
    return listing.normalise(pattern, _pages(settings))


def divide(pattern: str, settings: Settings) -> Iterator[Source | str]:
    """Prefixes that together hold all that matches, and what lies beside them."""
    return listing.divide(pattern, _pages(settings))


def list_part(pattern: str, part: str, settings: Settings) -> Iterator[Source]:
    """What matches among all that begins with the prefix `part`."""
    return listing.list_part(pattern, part, _pages(settings))


def prepare(settings: Settings) -> None:
    """Import and make what reading needs."""
    client(settings)


def client(settings: Settings) -> Any:
    """The client of this process; its threads share it."""
    with _making:
        return _client(settings)


@lru_cache(maxsize=4)
def _client(settings: Settings) -> Any:
    try:
        import boto3
    except ImportError as error:
        raise faults.MissingPackage("s3", "aws") from error
    from botocore.config import Config

    # What the environment says of retries, a Config would override.
    environment = os.environ
    attempts = int(environment.get("AWS_MAX_ATTEMPTS", _ATTEMPTS))
    mode = environment.get("AWS_RETRY_MODE", "standard")
    return boto3.session.Session().client(
        "s3",
        region_name=settings.option("s3_region_name"),
        api_version=settings.option("s3_api_version"),
        use_ssl=not settings.option("s3_disable_ssl", False),
        verify=_verify(settings.option("s3_verify")),
        endpoint_url=settings.option("s3_endpoint_url"),
        aws_access_key_id=settings.option("s3_access_key_id"),
        aws_secret_access_key=settings.option("s3_secret_access_key"),
        aws_session_token=settings.option("s3_session_token"),
        config=Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": mode, "total_max_attempts": attempts},
            max_pool_connections=_CONNECTIONS,
        ),
    )


def _verify(given: Any) -> Any:
    """A flag arrives as text: whether to check certificates, or a file of them."""
    return {"true": True, "false": False}.get(str(given).lower(), given)


def _named(uri: str) -> dict[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def _fetch(
    uri: str, settings: Settings, start: int, stop: int, etag: str | None
) -> Piece:
    """A range; what breaks in its middle goes on where it broke.

    botocore repeats a request that failed, and does not see how its body is read.
    """
    condition = {} if etag is None else {"IfMatch": f'"{etag}"'}
    chunks: list[bytes] = []
    for attempt in range(_ATTEMPTS):
        begin = start + sum(map(len, chunks))
        wanted = {"Range": f"bytes={begin}-{stop - 1}"}
        with _faults():
            try:
                response = client(settings).get_object(
                    **_named(uri), **wanted, **condition
                )
            except _client_error() as error:
                if _code(error) == "InvalidRange" and begin == 0:
                    return Piece(b"", 0)
                raise
        try:
            with closing(response["Body"]) as body:
                for chunk in body.iter_chunks(_CHUNK_BYTES):
                    chunks.append(chunk)
        except _broken():
            time.sleep(_FIRST_WAIT_SECONDS * 2**attempt)
            condition = {"IfMatch": response["ETag"]}
            continue
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return Piece(data, _total(response), response["ETag"].strip('"'))
    raise Fault("the connection broke again and again")


def _total(response: dict[str, Any]) -> int:
    """The object's size, from `bytes 0-65535/1234567`."""
    found = response.get("ContentRange")
    return int(found.rpartition("/")[2] if found else response["ContentLength"])


def _pages(settings: Settings) -> Pages:
    def pages(beginning: str, level: bool) -> Iterator[Page]:
        bucket, _, prefix = beginning.removeprefix("s3://").partition("/")
        paginator = client(settings).get_paginator("list_objects_v2")
        found = paginator.paginate(
            Bucket=bucket,
            Prefix=prefix,
            PaginationConfig={"PageSize": _PAGE_KEYS},
            **({"Delimiter": "/"} if level else {}),
        )
        with _faults():
            for page in found:
                yield _page(f"s3://{bucket}/", page)

    return pages


def _page(root: str, page: dict[str, Any]) -> Page:
    objects = page.get("Contents", ())
    return Page(
        tuple(_source(root + each["Key"], each["Size"], each) for each in objects),
        tuple(root + each["Prefix"] for each in page.get("CommonPrefixes", ())),
    )


def _source(uri: str, size: int, found: dict[str, Any]) -> Source:
    modified = found["LastModified"].astimezone(UTC)
    return Source(uri, size, modified, found["ETag"].strip('"'))


def _client_error() -> type[Exception]:
    from botocore.exceptions import ClientError

    return cast(type[Exception], ClientError)


def _broken() -> tuple[type[Exception], ...]:
    """What reading a body raises when the connection fails."""
    from botocore import exceptions
    from urllib3.exceptions import HTTPError

    return (exceptions.HTTPClientError, exceptions.IncompleteReadError, HTTPError)


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _faults() -> Iterator[None]:
    """Botocore's errors as ours."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        raise _fault(error) from error
    except NoCredentialsError as error:
        raise Fault("there are no credentials for S3 on this machine") from error
    except BotoCoreError as error:
        raise faults.unanswered(None, type(error).__name__) from error


def _fault(error: Any) -> Fault:
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "NoSuchBucket":
        return Gone("there is no such bucket")
    if code == "InvalidObjectState":
        return Fault("it lies in an archive tier; restore it first")
    if status == 404:
        return Gone()
    if status in (401, 403):
        return Denied()
    if status == 412:
        return Changed()
    return faults.unanswered(status, code)
