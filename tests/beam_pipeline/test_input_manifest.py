from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline import input_manifest, storage
from beam_pipeline.errors import Unreadable
from beam_pipeline.input_manifest import InputManifestError
from beam_pipeline.match import Match
from beam_pipeline.records import Source

NOON = datetime(2026, 11, 20, 12, 0, 0, 250_000, UTC)


def test_a_text_file_has_a_uri_a_line(tmp_path: Path) -> None:
    table = tmp_path / "files.txt"
    table.write_text("a b [1].dcm\n\n../c.dcm\r\n/d.dcm\ns3://bucket/e.dcm\n", "utf-8")
    found = [source.uri for source in input_manifest.read(str(table))]
    assert found == [
        f"{tmp_path}/a b [1].dcm",
        f"{tmp_path.parent}/c.dcm",
        "/d.dcm",
        "s3://bucket/e.dcm",
    ]


def test_a_table_may_say_what_listing_would_find(tmp_path: Path) -> None:
    expected = [
        Source("gs://b/a", 12, NOON, "17"),
        Source("gs://b/c", None, None, None),
    ]
    text = f'uri,size,modified,etag\ngs://b/a,12,{NOON.isoformat()},"""17"""\ngs://b/c,,,\n'
    (tmp_path / "files.csv").write_text(text)
    columns = {
        "uri": ["gs://b/a", "gs://b/c"],
        "size": [12, None],
        "modified": pa.array([NOON, None], pa.timestamp("us", "UTC")),
        "etag": ["17", None],
    }
    pq.write_table(pa.table(columns), tmp_path / "files.parquet")
    for name in ("files.csv", "files.parquet"):
        assert list(input_manifest.read(str(tmp_path / name))) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "path\nx\n", "needs a column 'uri'"),
        ("a.csv", "uri,Size\nx,1\n", "also has: Size"),
        ("a.csv", "uri,size\nx,1\nCanary,big\n", "entry 2: its size is no number"),
        ("a.csv", "uri,size\nCanary,-1\n", "entry 1: its size is below 0"),
        ("a.csv", "uri,modified\nCanary,noon\n", "modified is no ISO 8601 time"),
        ("a.csv", "uri,size\n,1\n", "entry 1: no uri"),
        ("a.lst", "x\n", "none of: .txt, .csv, .parquet"),
        ("a.parquet", "x\n", "cannot be read"),
        ("a.txt", None, "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputManifestError, match=message) as caught:
        input_manifest.check(str(tmp_path / name))
    assert "Canary" not in str(caught.value)


def test_only_the_beginning_is_looked_at_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_manifest, "_LOOKED_AT", 2)
    (tmp_path / "a.csv").write_text("uri,size\na,1\nb,2\nc,no number\n")
    assert len(input_manifest.check(str(tmp_path / "a.csv"))) == 2


def test_files_of_tables_and_patterns_are_listed_once_with_their_sizes(
    tmp_path: Path,
) -> None:
    for name in ("a.dcm", "b.dcm", "c.dcm"):
        (tmp_path / name).write_text(name * 2)
    (tmp_path / "some.txt").write_text("a.dcm\nb.dcm\nmissing.dcm\n")
    match = Match((f"{tmp_path}/[bc].dcm",), manifests=(f"{tmp_path}/some.txt",))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        sources, _ = pipeline | beam.Create([]) | match
        found = sources | beam.Map(_name_and_size)
        assert_that(
            found,
            equal_to(
                [("a.dcm", 10), ("b.dcm", 10), ("c.dcm", 10), ("missing.dcm", None)]
            ),
        )


def _name_and_size(source: Source) -> tuple[str, int | None]:
    return Path(source.uri).name, source.size


def test_a_bad_entry_far_down_ends_no_night(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("uri,size\n/a,1\n/b,big\n,2\n/c,3\n")
    found = [(source.uri, source.size) for source in input_manifest.read(str(table))]
    assert found == [("/a", 1), ("/b", None), ("/c", 3)]


@pytest.mark.parametrize("uri", ["http://x/y.dcm", "foo://x", "a\0b"])
def test_what_names_no_place_is_found_out_by_reading_it(uri: str) -> None:
    assert storage.find(uri) == Source(uri)
    with pytest.raises((Unreadable, OSError)):
        storage.open(Source(uri))
