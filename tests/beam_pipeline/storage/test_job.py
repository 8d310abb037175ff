"""The whole command with input, output, model and tables in buckets."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.internal.gcp import auth

from beam_pipeline import storage
from beam_pipeline.__main__ import main
from beam_pipeline.records import Source
from tests import radiographs
from tests.buckets import Bucket, Trouble

Export = tuple[Path, dict[str, tuple[str, str | None]]]

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
NOISE = np.random.default_rng(0).integers(0, 4096, (1000, 600), np.uint16)
# A process that reads, and one that lists and writes; a fault costs a connection.
WORKERS = 2


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Beam would look for credentials for half a minute before it does without.
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def upload(bucket: Bucket, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            bucket.put(key, path.read_bytes())


def score(bucket: Bucket, *flags: str) -> int:
    return main(
        [
            "score",
            f"--output={bucket.uri('results')}",
            f"--model={bucket.uri('models/brightness')}",
            f"--read_workers={WORKERS}",
            *flags,
        ]
    )


def fetch(bucket: Bucket, key: str) -> bytes:
    with storage.open(Source(bucket.uri(key))) as stream:
        return stream.read()


def rows(bucket: Bucket) -> dict[str, dict]:
    found = {}
    for key in bucket.names():
        if key.startswith("results/instances/"):
            table = pq.read_table(pa.BufferReader(fetch(bucket, key)))
            for row in table.to_pylist():
                found[row["source_uri"].removeprefix(bucket.uri("in/"))] = row
    return found


def test_a_job_lives_in_a_bucket(
    bucket: Bucket,
    export: Export,
    model_dir: Path,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder, expected = export
    upload(bucket, model_dir, "models/brightness")
    upload(bucket, folder, "in/night")
    big = radiographs.dicom(NOISE, BodyPartExamined="HAND")
    faulty = {
        "night/big hand.dcm": radiographs.to_bytes(big),
        "night/broken.dcm": radiographs.to_bytes(radiographs.dicom(NOISE)),
        "night/busy.dcm": radiographs.to_bytes(radiographs.dicom(NOISE)),
        "night/gone.dcm": radiographs.to_bytes(radiographs.dicom(NOISE)),
    }
    for name, data in faulty.items():
        bucket.put(f"in/{name}", data)
    bucket.put("in/table.csv", b"path,view_position\nnight/bright.png,PA\n")
    bucket.put("key", b"0123456789abcdef" * 4)
    bucket.proxy.troubles |= {
        "broken.dcm": Trouble(cut_after=30_000),
        "busy.dcm": Trouble(status=503, times=2),
        "gone.dcm": Trouble(first=lambda: bucket.delete("in/night/gone.dcm")),
    }
    bucket.proxy.seen.clear()
    code = score(
        bucket,
        f"--input={bucket.uri('in/night')}",
        f"--metadata={bucket.uri('in/table.csv')}",
        f"--pseudonym_key_file={bucket.uri('key')}",
        "--run_id=first",
    )
    assert code == 0
    warnings = [each for each in caplog.records if each.levelno > logging.INFO]
    theirs = ("apache_beam", "beam_pipeline", "boto", "google")
    said = [e.getMessage() for e in warnings if e.name.startswith(theirs)]
    assert said == []
    found = rows(bucket)
    endings = {name.split("/")[-1]: row for name, row in found.items()}
    assert {
        name: (row["status"], row["reason"]) for name, row in endings.items()
    } == expected | {
        "big hand.dcm": ("REJECTED", "BODY_PART"),
        "broken.dcm": ("SCORED", None),
        "busy.dcm": ("SCORED", None),
        "gone.dcm": ("ERROR", "READ_FAILED"),
    }
    assert endings["bright.png"]["view_position"] == "PA"
    assert all(row["source_etag"] and row["source_modified"] for row in found.values())
    assert endings["bright.dcm"]["patient_key"]
    _check_output(bucket)
    _check_costs(bucket, {name: len(data) for name, data in faulty.items()})
    [staged] = (cache / "radiograph-scorer" / "models").iterdir()
    assert (staged / "saved_model.pb").is_file()


def _check_output(bucket: Bucket) -> None:
    kept = [key for key in bucket.names() if key.startswith("results/")]
    assert sorted(kept) == [
        "results/instances/run=first/part-00000.parquet",
        "results/runs/first/_SUCCESS",
        "results/runs/first/run.json",
        "results/studies/run=first/part-00000.parquet",
    ]
    document = json.loads(fetch(bucket, "results/runs/first/run.json"))
    assert document["rows"] == document["listed"] == 12


def _check_costs(bucket: Bucket, sizes: dict[str, int]) -> None:
    proxy = bucket.proxy
    [rejected] = proxy.reads("big hand.dcm")
    assert rejected.sent < 100_000
    for name in ("night/broken.dcm", "night/busy.dcm"):
        delivered = sum(each.sent for each in proxy.reads(name) if each.status != 503)
        # Of what was cut, the other side may have seen less.
        assert sizes[name] <= delivered <= sizes[name] + 30_000
    readers = {each.client for each in proxy.seen if each.range and "/in/" in each.path}
    readers |= {
        each.client for each in proxy.seen if each.range and "in/n" in each.path
    }
    assert len(readers) <= WORKERS + 6
