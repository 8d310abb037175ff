"""Fixtures.

bucket   a bucket of S3's API, and one of Google's, each behind a proxy
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import buckets
from tests.buckets import Bucket, Proxy

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_GCE_CHECK": "true",
}


@pytest.fixture(scope="session")
def proxies() -> Iterator[dict[str, Proxy]]:
    """Both servers; clients are made once a process, so their addresses are too."""
    with (
        pytest.MonkeyPatch.context() as patch,
        buckets.s3_server() as s3,
        buckets.gcs_server() as gcs,
    ):
        found = {"s3": Proxy(s3), "gs": Proxy(gcs)}
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL_S3", found["s3"].url)
        patch.setenv("STORAGE_EMULATOR_HOST", found["gs"].url)
        yield found
        for proxy in found.values():
            proxy.close()


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest, proxies: dict[str, Proxy]) -> Bucket:
    return _fresh(request.param, proxies)


@pytest.fixture
def s3(proxies: dict[str, Proxy]) -> Bucket:
    return _fresh("s3", proxies)


@pytest.fixture
def gcs(proxies: dict[str, Proxy]) -> Bucket:
    return _fresh("gs", proxies)


def _fresh(scheme: str, proxies: dict[str, Proxy]) -> Bucket:
    proxy = proxies[scheme]
    proxy.troubles.clear()
    make = {"s3": buckets.s3_bucket, "gs": buckets.gcs_bucket}[scheme]
    made = make(proxy)
    proxy.seen.clear()
    return made
