from __future__ import annotations

import threading
from pathlib import Path

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline import read_ahead
from beam_pipeline.images import rules
from beam_pipeline.read import Reading
from beam_pipeline.read_ahead import ReadAhead
from beam_pipeline.records import Source
from tests import radiographs

MANIFEST = radiographs.manifest()
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


def test_a_failed_bundle_gives_its_slots_back(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm")
    source = Source(str(tmp_path / "a.dcm"))
    reader = ReadAhead(READING, workers=1)
    reader.setup()
    window = beam.window.GlobalWindow()
    for _ in range(read_ahead._AHEAD_PER_WORKER):
        next(iter(reader.process(source, 0, window)), None)
    reader.teardown()
    assert slots(reader._pool) == read_ahead._AHEAD_PER_WORKER


def test_the_pool_bounds_what_is_begun_and_not_taken() -> None:
    pool = read_ahead._Pool(READING, 1)
    assert slots(pool) == read_ahead._AHEAD_PER_WORKER
    waiting = threading.Thread(target=pool.free, kwargs={"wait": True})
    waiting.start()
    assert waiting.is_alive()
    pool.release()
    waiting.join(10)
    assert not waiting.is_alive()


def slots(pool: read_ahead._Pool) -> int:
    taken = 0
    while pool.free(wait=False):
        taken += 1
    return taken
