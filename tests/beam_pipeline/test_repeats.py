from __future__ import annotations

from pathlib import Path

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline import write
from beam_pipeline.records import Outcome, Status
from beam_pipeline.repeats import Repeated
from beam_pipeline.studies import Instance
from tests import radiographs


def row(name: str, **columns: str) -> Outcome:
    return Outcome(source_uri=name, status=Status.REJECTED, **columns)


def _name(instance: Instance) -> str:
    return instance.source_uri


def test_only_rows_that_share_something_are_looked_at(tmp_path: Path) -> None:
    run = radiographs.run(tmp_path)
    first = [
        row("image in another segment", image_digest="1", source_digest="a"),
        row("alone", image_digest="2", source_digest="b", sop_instance_uid="1.1"),
        row("bytes twice", source_digest="c"),
        row("bytes again", source_digest="c"),
        row("nothing known"),
        row("nothing known either"),
    ]
    second = [
        row("image there too", image_digest="1", source_digest="d"),
        row("uid", image_digest="5", sop_instance_uid="1.2"),
        row("uid again", image_digest="6", sop_instance_uid="1.2"),
        row("other kind", sop_instance_uid="2"),
    ]
    segments = [write.segment(run, rows) for rows in (first, second)]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        found = pipeline | beam.Create(segments) | Repeated() | beam.Map(_name)
        expected = ["image in another segment", "image there too", "bytes twice"]
        expected += ["bytes again", "uid", "uid again"]
        assert_that(found, equal_to(expected))
