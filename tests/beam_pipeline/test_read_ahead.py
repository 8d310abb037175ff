from __future__ import annotations

import threading
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to
from blake3 import blake3

from beam_pipeline import read
from beam_pipeline.read import ReadAhead
from beam_pipeline.records import Outcome, Ready, Source
from tests import radiographs

MANIFEST = radiographs.manifest()


def write(path: Path, **attributes: object) -> bytes:
    dataset = radiographs.dicom(radiographs.chest(0.5), **attributes)
    data = radiographs.to_bytes(dataset)
    path.write_bytes(data)
    return data


def test_an_eligible_file_is_ready_with_its_facts(tmp_path: Path) -> None:
    data = write(tmp_path / "a.dcm", ViewPosition=None)
    found = read.read(Source(str(tmp_path / "a.dcm"), len(data)), MANIFEST)
    assert isinstance(found, Ready)
    assert found.image.shape == (radiographs.SIZE, radiographs.SIZE, 1)
    assert found.image.dtype == np.uint8
    assert found.outcome.source_digest == f"blake3:{blake3(data).hexdigest()}"
    assert found.outcome.source_bytes == len(data)
    assert found.outcome.flags == ("VIEW_UNKNOWN",)
    assert found.outcome.voi == "window"
    assert found.outcome.status is None


def test_a_rejected_file_keeps_its_header_and_is_read_no_further(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.dcm", BodyPartExamined="HAND")
    found = read.read(Source(str(tmp_path / "a.dcm")), MANIFEST)
    assert isinstance(found, Outcome)
    assert (found.status, found.reason, found.body_part) == (
        "REJECTED",
        "BODY_PART",
        "HAND",
    )
    assert found.source_digest is None


@pytest.mark.parametrize("name", ["gone.dcm", "folder"])
def test_a_file_that_cannot_be_read_is_a_row(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    found = read.read(Source(str(tmp_path / name)), MANIFEST)
    assert (found.status, found.reason) == ("ERROR", "READ_FAILED")
    assert name not in found.detail


def test_a_defect_of_ours_costs_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.dcm")

    def broken(*_: object) -> None:
        raise KeyError("Canary^Patient")

    monkeypatch.setattr(read.images, "prepare", broken)
    found = read.read(Source(str(tmp_path / "a.dcm")), MANIFEST)
    assert (found.status, found.reason) == ("ERROR", "INTERNAL_ERROR")
    assert "KeyError in test_read.py" in found.detail
    assert "Canary" not in found.detail


def test_no_row_holds_a_patients_data(tmp_path: Path) -> None:
    for index, attributes in enumerate(
        [{}, {"BodyPartExamined": "Canary^Patient"}, {"Modality": "CANARY-4711"}]
    ):
        write(tmp_path / f"{index}.dcm", **attributes)
        found = read.read(Source(str(tmp_path / f"{index}.dcm")), MANIFEST)
        assert "canary" not in str(found).lower()


def test_read_ahead_keeps_the_order_windows_and_number(tmp_path: Path) -> None:
    sources = []
    for index in range(80):
        path = tmp_path / f"{index:03}.dcm"
        write(path, BodyPartExamined="CHEST" if index % 3 else "HAND")
        sources.append(Source(str(path)))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        uris = (
            pipeline
            | beam.Create(sources, reshuffle=False)
            | beam.Map(lambda s: beam.window.TimestampedValue(s, len(s.uri)))
            | beam.WindowInto(beam.window.FixedWindows(10_000))
            | beam.ParDo(ReadAhead(MANIFEST, workers=2))
            | beam.Map(lambda e: getattr(e, "outcome", e).source_uri)
        )
        assert_that(uris, equal_to([source.uri for source in sources]))


def test_a_failed_bundle_gives_its_slots_back(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm")
    source = Source(str(tmp_path / "a.dcm"))
    reader = ReadAhead(MANIFEST, workers=1)
    reader.setup()
    window = beam.window.GlobalWindow()
    for _ in range(read._AHEAD_PER_WORKER):
        next(iter(reader.process(source, 0, window)), None)
    reader.teardown()
    taken = 0
    while reader._pool.free(wait=False):
        taken += 1
    assert taken == read._AHEAD_PER_WORKER


def test_the_pool_bounds_what_is_begun_and_not_taken() -> None:
    pool = read._Pool(1)
    taken = 0
    while pool.free(wait=False):
        taken += 1
    assert taken == read._AHEAD_PER_WORKER
    waiting = threading.Thread(target=pool.free, kwargs={"wait": True})
    waiting.start()
    assert waiting.is_alive()
    pool.release()
    waiting.join(10)
    assert not waiting.is_alive()
