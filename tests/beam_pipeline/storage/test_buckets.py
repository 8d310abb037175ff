"""Reading and listing, against servers of both APIs."""

from __future__ import annotations

import numpy as np
import pytest

from beam_pipeline import storage
from beam_pipeline.images import rules
from beam_pipeline.read import Reading
from beam_pipeline.records import Outcome, Ready, Source
from beam_pipeline.storage import gcs as gcs_module
from beam_pipeline.storage import listing
from beam_pipeline.storage import s3 as s3_module
from tests import radiographs
from tests.buckets import FOR_EVER, Bucket, Request, Trouble

MANIFEST = radiographs.manifest()
READING = Reading(preparation=MANIFEST.preparation, rules=rules.compiled(MANIFEST))
# Google's client drops answers that are errors without closing their connections.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
NOISE = np.random.default_rng(0).integers(0, 4096, (1000, 600), np.uint16)


def dicom(**attributes: object) -> bytes:
    return radiographs.to_bytes(radiographs.dicom(NOISE, **attributes))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(gcs_module, "_RETRY_SECONDS", 3.0)


def last(source: Source) -> Ready | Outcome:
    return list(READING(source))[-1]


def listed(bucket: Bucket, key: str, data: bytes) -> Source:
    """An object, stored and listed."""
    bucket.put(key, data)
    [source] = storage.list_files(storage.normalise(bucket.uri(key)))
    bucket.proxy.seen.clear()
    return source


def test_a_whole_object_is_read_in_two_requests_and_no_byte_twice(
    bucket: Bucket,
) -> None:
    data = dicom()
    source = listed(bucket, "in/a.dcm", data)
    assert source.size == len(data)
    assert source.etag
    assert source.modified is not None
    found = last(source)
    assert isinstance(found, Ready)
    reads = bucket.proxy.reads("a.dcm")
    assert of_objects(bucket) == reads
    assert [each.range for each in reads] == [
        "bytes=0-32767",
        f"bytes=32768-{len(data) - 1}",
    ]
    assert sum(each.sent for each in reads) == len(data)
    assert found.outcome.source_etag == source.etag


def of_objects(bucket: Bucket) -> list[Request]:
    """The requests for objects; Google's client first has one for the bucket."""
    return [each for each in bucket.proxy.seen if "projection=noAcl" not in each.path]


def test_a_big_object_that_its_header_rules_out_costs_one_small_read(
    bucket: Bucket,
) -> None:
    source = listed(bucket, "in/hand.dcm", dicom(BodyPartExamined="HAND"))
    assert last(source).reason == "BODY_PART"
    assert [(each.range, each.sent) for each in of_objects(bucket)] == [
        ("bytes=0-32767", 32768)
    ]


@pytest.mark.parametrize("size", [0, 1, 32768, 32769])
def test_objects_of_any_size_come_whole(bucket: Bucket, size: int) -> None:
    data = bytes(range(256)) * 300
    source = listed(bucket, "x", data[:size])
    for known in (source, Source(source.uri)):
        with storage.open(known) as stream:
            assert stream.read() == data[:size]
            assert stream.seek(-1, 2) == max(0, size - 1)
            assert stream.read(5) == data[max(0, size - 1) : size]


def test_what_was_passed_over_is_fetched_when_it_is_wanted(bucket: Bucket) -> None:
    data = bytes(np.random.default_rng(1).integers(0, 256, 900_000, np.uint8))
    source = listed(bucket, "x", data)
    with storage.open(source) as stream:
        for start, length in [(0, 10), (500_000, 20), (32_760, 100), (499_990, 20)]:
            stream.seek(start)
            assert stream.read(length) == data[start : start + length]
        stream.seek(0)
        assert stream.read() == data
    assert sum(each.sent for each in bucket.proxy.reads("x")) == len(data)


PASSING = {
    "busy twice": Trouble(status=503, times=2),
    "an internal error": Trouble(status=500),
    "cut in the header": Trouble(cut_after=1000),
    "slow": Trouble(slow=0.3),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_costs_no_score(bucket: Bucket, name: str) -> None:
    source = listed(bucket, "a.dcm", dicom())
    given = PASSING[name]
    bucket.proxy.troubles["a.dcm"] = Trouble(**vars(given))
    assert isinstance(last(source), Ready)
    assert bucket.proxy.troubles["a.dcm"].times == 0


@pytest.mark.parametrize("reset", [False, True])
def test_a_body_that_breaks_goes_on_where_it_broke(bucket: Bucket, reset: bool) -> None:
    data = dicom()
    source = listed(bucket, "a.dcm", data)
    with storage.open(source) as stream:
        stream.read(10)
        bucket.proxy.troubles["a.dcm"] = Trouble(cut_after=800_000, reset=reset)
        stream.seek(0)
        assert stream.read() == data
    first, second, third = bucket.proxy.reads("a.dcm")
    assert (first.status, second.status, third.status) == (206, None, 206)
    begin = int(third.range.removeprefix("bytes=").split("-")[0])
    # A reset may take with it what had arrived and was not read yet.
    assert begin >= 32768 if reset else begin == 32768 + 800_000


FINAL = {
    "busy for ever": (
        Trouble(status=503, times=FOR_EVER),
        "READ_FAILED",
        "did not deliver",
    ),
    "cut for ever": (Trouble(cut_after=100, times=FOR_EVER), "READ_FAILED", ""),
    "forbidden": (Trouble(status=403), "READ_FAILED", "access denied"),
    "replaced": (Trouble(status=412), "STILL_CHANGING", "it was replaced"),
}


@pytest.mark.parametrize("name", FINAL)
def test_a_fault_that_stays_is_a_row(
    bucket: Bucket, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble, reason, detail = FINAL[name]
    source = listed(bucket, "Canary.dcm", dicom())
    bucket.proxy.troubles["Canary.dcm"] = Trouble(**vars(trouble))
    found = last(source)
    assert (found.status, found.reason) == ("ERROR", reason)
    assert detail in found.detail
    assert "Canary" not in found.detail
    assert bucket.name not in found.detail


def test_what_is_gone_when_it_is_read_is_a_row(bucket: Bucket) -> None:
    source = listed(bucket, "a.dcm", dicom())
    bucket.delete("a.dcm")
    found = last(source)
    assert (found.reason, found.detail) == ("READ_FAILED", "it is no longer there")


def test_a_read_is_held_to_what_was_listed(bucket: Bucket) -> None:
    source = listed(bucket, "a.dcm", dicom())
    last(source)
    for each in of_objects(bucket):
        held = f'"{source.etag}"', f"ifGenerationMatch={source.etag}"
        assert each.condition == held[0] or held[1] in each.path


def test_what_was_replaced_since_it_was_listed_waits(s3: Bucket) -> None:
    source = listed(s3, "a.dcm", dicom())
    s3.put("a.dcm", dicom(PatientAge="003Y"))
    assert last(source).reason == "STILL_CHANGING"


def test_what_grew_since_a_table_was_made_waits(bucket: Bucket) -> None:
    data = dicom()
    source = listed(bucket, "a.dcm", data)
    found = last(Source(source.uri, len(data) - 1))
    assert found.reason == "STILL_CHANGING"
    assert found.detail.endswith(f"{len(data):,}")


NAMES = [
    "a/1.dcm",
    "a/b/2.dcm",
    "a/b/hand [1].dcm",
    "a/x*/3.dcm",
    "a/xy/4.dcm",
    "a.dcm",
    "ab/5.dcm",
    "a/ä ö+%25 &.dcm",
]


BELOW = "a/b/2.dcm a/b/hand_[1].dcm a/x*/3.dcm a/xy/4.dcm"


@pytest.fixture
def tree(bucket: Bucket) -> Bucket:
    for name in NAMES:
        bucket.put(name, b"1")
    # As a console makes a folder.
    bucket.put("a/b/", b"")
    return bucket


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a", f"a/1.dcm a/ä_ö+%25_&.dcm {BELOW}"),
        ("a/", f"a/1.dcm a/ä_ö+%25_&.dcm {BELOW}"),
        ("a/*", "a/1.dcm a/ä_ö+%25_&.dcm"),
        ("a/*/*.dcm", BELOW),
        ("a*/?.dcm", "a/1.dcm ab/5.dcm"),
        ("**/[2-4].dcm", "a/b/2.dcm a/x*/3.dcm a/xy/4.dcm"),
        ("a/x*", "a/x*/3.dcm"),
        ("a/b/hand [1].dcm", "a/b/hand_[1].dcm"),
        ("a.dcm", "a.dcm"),
        ("none", ""),
    ],
)
def test_patterns_mean_what_they_mean_on_a_disk(
    tree: Bucket, pattern: str, expected: str
) -> None:
    found = storage.list_files(storage.normalise(tree.uri(pattern)))
    names = [each.uri.removeprefix(tree.uri("")).replace(" ", "_") for each in found]
    assert sorted(names) == sorted(expected.split())


def test_a_bucket_s_name_stands_for_all_that_is_in_it(tree: Bucket) -> None:
    for root in (tree.uri(""), tree.uri("").rstrip("/")):
        found = storage.list_files(storage.normalise(root))
        assert len(list(found)) == len(NAMES)


def test_a_bucket_that_is_not_there_is_said_to_be_missing(bucket: Bucket) -> None:
    where = f"{bucket.scheme}://no-such-bucket/x"
    with pytest.raises(storage.Fault, match="no such bucket"):
        storage.normalise(where)


def test_listing_is_divided_by_folders_and_paged(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "_PAGE_KEYS", 7)
    monkeypatch.setattr(listing, "_MOST_FILES", 10)
    names = {f"day {day}/{n:03}.dcm" for day in range(5) for n in range(20)}
    for name in names:
        s3.put(f"in/{name}", b"1")
    s3.put("in/beside.dcm", b"1")
    s3.proxy.seen.clear()
    found = list(storage.divide(s3.uri("in/**")))
    parts = [each for each in found if isinstance(each, storage.Part)]
    assert [part.part for part in parts] == [s3.uri(f"in/day {n}/") for n in range(5)]
    assert [each.uri for each in found if isinstance(each, Source)]
    listed = [s.uri for part in found for s in storage.list_part(part)]
    assert sorted(listed) == sorted(
        [s3.uri(f"in/{name}") for name in names] + [s3.uri("in/beside.dcm")]
    )
    assert max(each.path.count("max-keys=7") for each in s3.proxy.seen) == 1
    assert len(s3.proxy.seen) > 15


def test_a_folder_without_end_is_listed_as_it_is(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "_PAGE_KEYS", 2)
    monkeypatch.setattr(listing, "_MOST_FILES", 4)
    for n in range(15):
        s3.put(f"in/{n:02}.dcm", b"1")
    s3.proxy.seen.clear()
    assert list(storage.divide(s3.uri("in/**"))) == [
        storage.Part(s3.uri("in/**"), s3.uri("in/"))
    ]
    assert len(s3.proxy.seen) == 3


def test_what_a_table_names_is_found_with_its_size(bucket: Bucket) -> None:
    source = listed(bucket, "a.dcm", b"123")
    assert storage.find(source.uri) == source
    missing = storage.find(bucket.uri("missing"))
    assert missing == Source(bucket.uri("missing"))
    assert last(missing).reason == "READ_FAILED"


def test_threads_of_a_process_share_one_client(s3: Bucket) -> None:
    options = {"s3_region_name": "eu-west-1", "runner": "FlinkRunner"}
    first = s3_module.client(storage.Settings.of(options))
    assert (
        s3_module.client(storage.Settings((("s3_region_name", "eu-west-1"),))) is first
    )
    assert first.meta.region_name == "eu-west-1"
