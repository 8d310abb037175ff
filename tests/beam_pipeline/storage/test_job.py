"""The whole command with input, output, model and tables in buckets."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.internal.gcp import auth

from beam_pipeline import storage
from beam_pipeline.__main__ import main
from beam_pipeline.records import Source
from beam_pipeline.storage import gcs, s3
from tests import radiographs
from tests.buckets import FOR_EVER, Bucket, Trouble

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
    # One a process that reads, and another for each error: Google's client drops them.
    reads = [each for each in proxy.seen if each.range and "in/night/" in each.path]
    clients = {each.client: each.path for each in reads}
    assert len(clients) <= WORKERS + 4, clients


FOLDERS, FILES = 20, 50


@pytest.mark.slow
def test_a_thousand_objects_each_have_one_row_and_one_read(
    bucket: Bucket, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_PAGE_KEYS", 30)
    monkeypatch.setattr(gcs, "_PAGE_OBJECTS", 30)
    upload(bucket, model_dir, "models/brightness")
    for folder in range(FOLDERS):
        for n in range(FILES):
            part = "CHEST" if n % 2 else "HAND"
            data = radiographs.dicom(radiographs.chest(0.5), BodyPartExamined=part)
            bucket.put(f"in/day={folder}/site/{n:03}.dcm", radiographs.to_bytes(data))
    bucket.proxy.troubles |= {
        "day=7/site/011.dcm": Trouble(status=503, times=FOR_EVER),
        "day=8/site/012.dcm": Trouble(slow=2),
        "day=9/": Trouble(status=500, times=3),
    }
    bucket.proxy.seen.clear()
    assert score(bucket, f"--input={bucket.uri('in/**/*.dcm')}", "--run_id=first") == 0
    found = rows(bucket)
    assert len(found) == FOLDERS * FILES
    counts = Counter((row["status"], row["reason"]) for row in found.values())
    assert counts == {
        ("SCORED", None): FOLDERS * FILES // 2 - 1,
        ("REJECTED", "BODY_PART"): FOLDERS * FILES // 2,
        ("ERROR", "READ_FAILED"): 1,
    }
    reads = [e for e in bucket.proxy.seen if e.range and "in/day=" in e.path]
    delivered = [each for each in reads if each.status == 206]
    assert len(delivered) == len({each.path for each in delivered})
    assert len(delivered) == FOLDERS * FILES - 1
    assert len({each.client for each in reads}) <= WORKERS + 20
    # A second night knows them by their ETags.
    bucket.proxy.troubles.clear()
    bucket.proxy.seen.clear()
    assert score(bucket, f"--input={bucket.uri('in/**/*.dcm')}", "--run_id=second") == 0
    reads = [e.path for e in bucket.proxy.seen if e.range and "in/day=" in e.path]
    assert {"day=7/site/011.dcm" in path for path in reads} == {True}


def test_a_table_of_files_stands_in_the_place_of_listing(
    bucket: Bucket, model_dir: Path
) -> None:
    upload(bucket, model_dir, "models/brightness")
    data = radiographs.to_bytes(radiographs.dicom(radiographs.chest(0.5)))
    bucket.put("in/a [1].dcm", data)
    bucket.put("in/b.dcm", data)
    lines = f"a [1].dcm\n{bucket.uri('in/b.dcm')}\nmissing.dcm\n"
    bucket.put("in/files.txt", lines.encode())
    flags = [f"--input_manifest={bucket.uri('in/files.txt')}", "--run_id=first"]
    assert score(bucket, *flags) == 0
    found = rows(bucket)
    endings = {name: (row["status"], row["reason"]) for name, row in found.items()}
    assert endings == {
        "a [1].dcm": ("SCORED", None),
        "b.dcm": ("SCORED", None),
        "missing.dcm": ("ERROR", "READ_FAILED"),
    }
    assert found["b.dcm"]["source_bytes"] == len(data)
    assert found["b.dcm"]["source_etag"]
    assert not any("list-type" in e.path and "=in" in e.path for e in bucket.proxy.seen)
