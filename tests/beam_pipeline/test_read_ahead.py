from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline import read_ahead
from beam_pipeline.images import rules
from beam_pipeline.manifest import Preparation
from beam_pipeline.read import Reading
from beam_pipeline.read_ahead import ReadAhead
from beam_pipeline.records import Outcome, Ready, Source
from tests import radiographs

MANIFEST = radiographs.manifest()
INPUT_BYTES = radiographs.SIZE**2
READING = Reading(preparation=MANIFEST.preparation, rules=rules.compiled(MANIFEST))


def write(path: Path, **attributes: object) -> None:
    dataset = radiographs.dicom(radiographs.chest(0.5), **attributes)
    path.write_bytes(radiographs.to_bytes(dataset))


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
            | beam.ParDo(ReadAhead(READING, workers=2))
            | beam.Map(lambda e: getattr(e, "outcome", e).source_uri)
        )
        assert_that(uris, equal_to([source.uri for source in sources]))


def test_a_failed_bundle_gives_its_slots_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", 5 * INPUT_BYTES)
    write(tmp_path / "a.dcm")
    source = Source(str(tmp_path / "a.dcm"))
    reader = ReadAhead(READING, workers=1)
    reader.setup()
    window = beam.window.GlobalWindow()
    for _ in range(5):
        next(iter(reader.process(source, 0, window)), None)
    reader.teardown()
    assert slots(reader._pool) == 5


def test_the_pool_bounds_what_is_begun_and_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", 5 * INPUT_BYTES)
    pool = read_ahead._Pool(READING, 1)
    assert slots(pool) == 5
    waiting = threading.Thread(target=pool.free, kwargs={"wait": True})
    waiting.start()
    assert waiting.is_alive()
    pool.release()
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.parametrize(
    ("height", "width", "workers", "expected"),
    [
        (224, 224, 2, 668),
        # More workers read no further ahead.
        (224, 224, 64, 668),
        (512, 256, 2, 256),
        # Very large ones: what is worked on, and what was just finished.
        (4096, 4096, 8, 16),
    ],
)
def test_the_bound_is_in_bytes(
    height: int, width: int, workers: int, expected: int
) -> None:
    preparation = Preparation(height=height, width=width)
    assert read_ahead.slots(preparation, workers) == expected


def test_the_pool_is_full_whenever_the_model_may_be_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", 8 * INPUT_BYTES)
    reader = ReadAhead(READING, workers=2)
    reader.setup()
    sources = []
    for index in range(30):
        path = tmp_path / f"{index:03}.dcm"
        write(path)
        sources.append(Source(str(path)))
    taken = []
    for source in sources:
        # As while the thread that takes them is in the model: all are finished.
        assert not wait([future for future, _ in reader._pending], 60).not_done
        for element in reader.process(source, 0, beam.window.GlobalWindow()):
            # All but the one that this one made room for.
            assert len(reader._pending) == 7
            taken.append(element)
    taken += reader.finish_bundle()
    assert [e.value.outcome.source_uri for e in taken] == [s.uri for s in sources]


@pytest.mark.parametrize(
    ("attributes", "known", "is_expected"),
    [
        ({}, None, True),
        ({"BodyPartExamined": "HAND"}, None, False),
        # An earlier run has read this content, and could not score it.
        ({}, "blake3:00", False),
    ],
    ids=["new", "rejected", "known"],
)
def test_the_model_is_expected_before_the_first_model_input_is_there(
    tmp_path: Path, attributes: dict[str, str], known: str | None, is_expected: bool
) -> None:
    write(tmp_path / "a.dcm", **attributes)
    happened: list[str] = []

    def told(source: Source) -> Iterator[Ready | Outcome]:
        for message in READING(source):
            happened.append("message")
            yield message

    idle: SimpleQueue[Any] = SimpleQueue()
    idle.put(SimpleNamespace(run=told))
    source = Source(str(tmp_path / "a.dcm"), digest=known)
    found = read_ahead._read(source, idle, lambda: happened.append("expected"))
    assert isinstance(found, Ready) == (not attributes)
    assert ("expected" in happened) == is_expected
    assert happened[-1] == "message"


def slots(pool: read_ahead._Pool) -> int:
    taken = 0
    while pool.free(wait=False):
        taken += 1
    return taken
