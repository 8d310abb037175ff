from __future__ import annotations

import logging
import pickle
import sys
from pathlib import Path

import pytest

from beam_pipeline import storage
from beam_pipeline.__main__ import main
from beam_pipeline.records import Source
from beam_pipeline.storage import MissingPackage, Settings, gcs, s3

OPTIONS = {
    "s3_secret_access_key": "canary",
    "s3_endpoint_url": "http://minio",
    "s3_region_name": None,
    "hdfs_host": "namenode",
    "runner": "FlinkRunner",
}


def test_settings_are_those_of_storage_and_show_no_secret() -> None:
    settings = Settings.of(OPTIONS, ["s3://b/**", "/exports/1", "gs://b/x"])
    assert settings.option("s3_endpoint_url") == "http://minio"
    assert settings.option("s3_region_name", "none") == "none"
    assert settings.option("runner") is None
    assert settings.schemes == {"s3", "gs", "file"}
    assert "canary" not in repr(settings)
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_whoever_reads_and_whoever_lists_share_a_client() -> None:
    assert Settings.of(OPTIONS, ["s3://b/x"]) == Settings.of(OPTIONS)


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("s3://b/k", "s3"),
        ("/a/b", "file"),
        ("a:b", "file"),
        ("file:///a", "file"),
        ("we ird://x", "file"),
    ],
)
def test_the_scheme_of_a_uri(uri: str, scheme: str) -> None:
    assert storage.scheme_of(uri) == scheme


@pytest.mark.parametrize(
    ("module", "package", "uri", "extra"),
    [(s3, "boto3", "s3://b/x", "aws"), (gcs, "google.cloud", "gs://b/x", "gcp")],
)
def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: object,
    package: str,
    uri: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    module._client.cache_clear()
    with pytest.raises(MissingPackage, match=extra):
        storage.open(Source(uri)).read()
    assert main(["score", f"--input={uri}", f"--output={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert f"pip install 'radiograph-scorer[{extra}]'" in said


def test_beam_s_search_for_credentials_is_not_shown() -> None:
    main_logger = logging.getLogger("apache_beam.utils.retry")
    with pytest.raises(SystemExit):
        main(["--help"])
    record = logging.LogRecord(
        "apache_beam.utils.retry",
        logging.WARNING,
        "",
        0,
        "Retry with exponential backoff: waiting for %s seconds before retrying %s",
        (3, "_get_credentials_with_retrys"),
        None,
    )
    assert not main_logger.filter(record)
    record.args = (3, "copy")
    assert main_logger.filter(record)
