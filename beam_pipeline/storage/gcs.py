"""Google Cloud Storage, by google-cloud-storage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, BinaryIO, cast

from beam_pipeline.records import Source
from beam_pipeline.storage import faults, listing
from beam_pipeline.storage.faults import Changed, Denied, Fault, Gone
from beam_pipeline.storage.listing import Page, Pages
from beam_pipeline.storage.ranged import Piece, RangedReader
from beam_pipeline.storage.settings import Settings

_TIMEOUTS = (10, 20)
_RETRY_SECONDS = 30.0
_PAGE_OBJECTS = 1000
_LISTED = "items(name,size,updated,generation),prefixes,nextPageToken"
_making = threading.Lock()


def open(source: Source, settings: Settings) -> BinaryIO:
    """The bytes of an object, by ranges; as they are stored, also if gzipped."""
    fetch = partial(_fetch, _blob(source.uri, settings), source.size)
    return cast(BinaryIO, RangedReader(source, fetch))


def find(uri: str, settings: Settings) -> Source:
    """The object as listing would give it.

    Raises:
        Fault: it is not there, or may not be asked for.
    """
    blob = _blob(uri, settings)
    with _faults():
        blob.reload(**_patience())
    return _source(uri, blob)


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
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage
    except ImportError as error:
        raise faults.MissingPackage("gs", "gcp") from error
    try:
        return storage.Client(credentials=_impersonated(settings))
    except DefaultCredentialsError:
        # As Beam does: what is public needs none.
        return storage.Client.create_anonymous_client()


def _impersonated(settings: Settings) -> Any:
    """The credentials of the service account that the job is to act as, if any."""
    named = settings.option("impersonate_service_account")
    if not named:
        return None
    import google.auth
    from google.auth import impersonated_credentials

    *delegates, target = named.split(",")
    scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]
    source, _ = google.auth.default(scopes=scopes)
    return impersonated_credentials.Credentials(
        source, target_principal=target, delegates=delegates, target_scopes=scopes
    )


def _blob(uri: str, settings: Settings) -> Any:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return client(settings).bucket(bucket).blob(name)


def _patience() -> dict[str, Any]:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return {"timeout": _TIMEOUTS, "retry": DEFAULT_RETRY.with_timeout(_RETRY_SECONDS)}


def _fetch(
    blob: Any, listed: int | None, start: int, stop: int, etag: str | None
) -> Piece:
    """A range of the generation `etag`; the client goes on where it breaks."""
    with _faults():
        # An answer tells neither of them, in a form that the client passes on.
        if etag is None or (listed is None and blob.size is None):
            blob.reload(**_patience())
            etag = etag or str(blob.generation)
        size = cast(int, listed if blob.size is None else blob.size)
        if start >= size:
            return Piece(b"", size, etag)
        data = blob.download_as_bytes(
            start=start,
            end=min(stop, size) - 1,
            raw_download=True,
            checksum=None,
            if_generation_match=int(etag),
            **_patience(),
        )
    return Piece(data, size, etag)


def _pages(settings: Settings) -> Pages:
    def pages(beginning: str, level: bool) -> Iterator[Page]:
        bucket, _, prefix = beginning.removeprefix("gs://").partition("/")
        root = f"gs://{bucket}/"
        with _faults("there is no such bucket"):
            found = client(settings).list_blobs(
                bucket,
                prefix=prefix,
                delimiter="/" if level else None,
                page_size=_PAGE_OBJECTS,
                fields=_LISTED,
                **_patience(),
            )
            for page in found.pages:
                yield Page(
                    tuple(_source(root + blob.name, blob) for blob in page),
                    tuple(root + prefix for prefix in page.prefixes),
                )

    return pages


def _source(uri: str, blob: Any) -> Source:
    # A generation names the content as an ETag does, and a read can be held to it.
    return Source(uri, blob.size, blob.updated, str(blob.generation))


@contextmanager
def _faults(missing: str = "it is no longer there") -> Iterator[None]:
    """The client's errors as ours."""
    import requests
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except RetryError as error:
        raise _fault(error.cause or error, missing) from error
    except (
        GoogleAPICallError,
        GoogleAuthError,
        HTTPError,
        requests.RequestException,
        ConnectionError,
    ) as error:
        raise _fault(error, missing) from error


def _fault(error: Any, missing: str) -> Fault:
    status = getattr(error, "code", None)
    if status == 404:
        return Gone(missing)
    if status in (401, 403):
        return Denied()
    if status == 412:
        return Changed()
    return faults.unanswered(
        status if isinstance(status, int) else None, type(error).__name__
    )
