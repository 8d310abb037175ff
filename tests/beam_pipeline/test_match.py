from __future__ import annotations

from pathlib import Path

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline.match import Match
from beam_pipeline.records import Source


def test_patterns_that_overlap_list_a_file_once(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm", "c.png"):
        (tmp_path / name).touch()
    patterns = (f"{tmp_path}/*", f"{tmp_path}/*.dcm", f"{tmp_path}/a.dcm")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        nothing = pipeline | beam.Create([])
        found, _ = nothing | Match(patterns)
        found |= beam.Map(_name)
        assert_that(found, equal_to(["a.dcm", "b.dcm", "c.png"]))


def _name(source: Source) -> str:
    return Path(source.uri).name
