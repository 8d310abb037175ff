from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline import match
from beam_pipeline.match import Match
from beam_pipeline.records import Source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a [b] *c"
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("one.dcm", "deep/two", "deep/er/three [1].png", ".hidden"):
        (folder / name).write_bytes(b"123")
    return folder


def names(pattern: str) -> list[str]:
    return sorted(Path(source.uri).name for source in match.list_files(pattern))


def test_a_folder_stands_for_every_file_below_it(folder: Path) -> None:
    expected = [".hidden", "one.dcm", "three [1].png", "two"]
    assert names(match.normalise(str(folder))) == expected


def test_a_source_has_size_and_time(folder: Path) -> None:
    [source] = match.list_files(match.normalise(str(folder / "deep" / "er")))
    assert source.size == 3
    assert source.modified.timestamp() == pytest.approx(
        (folder / "deep/er/three [1].png").stat().st_mtime, abs=1e-3
    )


def test_patterns_that_overlap_list_a_file_once(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm", "c.png"):
        (tmp_path / name).touch()
    patterns = (f"{tmp_path}/*", f"{tmp_path}/*.dcm", f"{tmp_path}/a.dcm")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        found = pipeline | Match(patterns) | beam.Map(_name)
        assert_that(found, equal_to(["a.dcm", "b.dcm", "c.png"]))


def _name(source: Source) -> str:
    return Path(source.uri).name


@pytest.mark.parametrize(
    ("pattern", "found"), [("*.dcm", True), ("*.png", False), ("one.dcm", True)]
)
def test_whether_anything_matches(tmp_path: Path, pattern: str, found: bool) -> None:
    (tmp_path / "one.dcm").touch()
    assert match.matches_any(f"{tmp_path}/{pattern}") is found


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/data/**", "/data/out/part", True),
        ("/data/*", "/data/out/part", False),
        ("/data/in/**", "/data/out/part", False),
        ("/data/**/*.dcm", "/data/out/part", False),
    ],
)
def test_what_a_pattern_covers(pattern: str, path: str, covered: bool) -> None:
    assert match.covers(pattern, path) is covered
