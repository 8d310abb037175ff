"""Hostile files cost what the limits allow, and each of them gets its row."""

from __future__ import annotations

import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.images.eligibility import Rules
from beam_pipeline.limits import Limits
from beam_pipeline.process_pool import Allowance, Worker
from beam_pipeline.read import Reading
from beam_pipeline.read_ahead import _read
from beam_pipeline.records import Outcome, Ready, Source
from beam_pipeline.storage import list_files, normalise
from tests import hostile, radiographs

MIB = 2**20
LIMITS = Limits(
    file_bytes=16 * MIB,
    pixels=4_000_000,
    inflated_bytes=32 * MIB,
    seconds=2.0,
    memory_bytes=192 * MIB,
)
# A busy machine finds a process dead only some time after its deadline.
TOLERANCE = 5.0
# A limit on data counts neither the stack nor pages of libraries that are written to.
UNCOUNTED = 4 * MIB
SPARSE = 8 * 2**30
READING = Reading(preparation=radiographs.PREPARATION, rules=Rules(()), limits=LIMITS)
GOOD = radiographs.to_bytes(hostile.dicom())
BASELINE = uid.JPEGBaseline8Bit
EIGHT_BITS = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}


@dataclass(frozen=True)
class Read:
    """How a file ended, and what it cost."""

    outcome: Outcome
    ready: bool
    seconds: float
    grown: int

    @property
    def reason(self) -> str | None:
        return None if self.ready else self.outcome.reason


class Reader:
    """A process that reads files, and a thread that watches its memory."""

    def __init__(self) -> None:
        allowance = Allowance(LIMITS.seconds, LIMITS.memory_bytes)
        self._worker = Worker(READING, allowance)
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._idle.put(self._worker)

    def read(self, source: Source) -> Read:
        # The first file of a process has it import the decoders.
        list(self._worker.run(Source("/nowhere")))
        done = threading.Event()
        seen: list[int] = []
        watch = threading.Thread(target=self._watch, args=(done, seen))
        watch.start()
        clock = time.monotonic()
        found = _read(source, self._idle, None)
        seconds = time.monotonic() - clock
        done.set()
        watch.join()
        ready = isinstance(found, Ready)
        outcome = found.outcome if isinstance(found, Ready) else found
        return Read(outcome, ready, seconds, max(seen) - seen[0])

    def close(self) -> None:
        self._worker.close()

    def _watch(self, done: threading.Event, seen: list[int]) -> None:
        status = Path(f"/proc/{self._worker._process.pid}/status")
        seen.append(_private_bytes(status) or 0)
        while not done.wait(0.005):
            seen.append(_private_bytes(status) or 0)


def _private_bytes(status: Path) -> int | None:
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else None


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    found = Reader()
    yield found
    found.close()


@pytest.fixture
def read(reader: Reader) -> Callable[[Source], Read]:
    """Read a file, and see that it stays within its limits."""

    def within_limits(source: Source) -> Read:
        found = reader.read(source)
        assert found.seconds < LIMITS.seconds + TOLERANCE
        assert found.grown <= LIMITS.memory_bytes + UNCOUNTED
        assert "Canary" not in f"{found.outcome}"
        return found

    return within_limits


def png(pixels_high: int, pixels_wide: int) -> bytes:
    return hostile.png(pixels_high, pixels_wide, grown=60)


def last(source: Source, reading: Reading = READING) -> Ready | Outcome:
    return list(reading(source))[-1]


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "deflated": (lambda: hostile.deflate_bomb(200 * MIB), "TOO_LARGE"),
    "native 65535²": (hostile.huge_rows, "TOO_LARGE"),
    "JPEG 2000 65535²": (
        lambda: hostile.huge_rows(uid.JPEG2000Lossless),
        "TOO_LARGE",
    ),
    "PNG 65535²": (lambda: png(65535, 65535), "TOO_LARGE"),
    "PNG 10000²": (lambda: png(10_000, 10_000), "TOO_LARGE"),
    "PNG that inflates on": (
        lambda: hostile.png(100, 80, grown=256 * MIB),
        "CONSTANT_IMAGE",
    ),
    "PNG text": (lambda: hostile.png_text_bomb(256 * MIB), "CORRUPT_HEADER"),
    "PNG profile": (lambda: hostile.png_profile_bomb(256 * MIB), "CORRUPT_HEADER"),
    "RLE": (lambda: hostile.rle_bomb(512 * MIB), "DECODE_ERROR"),
    "JPEG behind garbage": (
        lambda: hostile.jpeg_behind_garbage(65500, 65500),
        "TOO_LARGE",
    ),
    "JPEG behind garbage, in DICOM": (
        lambda: hostile.encapsulated(
            hostile.jpeg_behind_garbage(65500, 65500), BASELINE, **EIGHT_BITS
        ),
        "DECODE_ERROR",
    ),
    "items": (lambda: hostile.empty_items(2_000_000), "TOO_LARGE TIMEOUT"),
    "nested sequences": (lambda: hostile.nested(10_000), "CORRUPT_HEADER"),
    "scans": (lambda: hostile.many_scans(2000, 2000, 100_000), "TIMEOUT"),
    "scans, in DICOM": (
        lambda: hostile.encapsulated(
            hostile.many_scans(2000, 2000, 100_000),
            BASELINE,
            Rows=2000,
            Columns=2000,
            **EIGHT_BITS,
        ),
        "TIMEOUT",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_no_more_than_the_limits(
    name: str, read: Callable[[Source], Read], tmp_path: Path
) -> None:
    make, reasons = BOMBS[name]
    path = tmp_path / "bomb"
    path.write_bytes(make())
    assert path.stat().st_size < 1.1 * LIMITS.file_bytes
    assert read(Source(str(path))).reason in reasons.split()
    path.write_bytes(GOOD)
    assert read(Source(str(path))).ready


@pytest.mark.parametrize(
    "syntax", [s for s in hostile.ENCODERS if s != uid.RLELossless], ids=str
)
def test_a_codestream_larger_than_its_header_is_not_decoded(
    syntax: str, read: Callable[[Source], Read], tmp_path: Path
) -> None:
    path = tmp_path / "larger.dcm"
    path.write_bytes(hostile.larger_codestream(syntax))
    found = read(Source(str(path)))
    assert found.reason == "DECODE_ERROR"
    assert "(600, 500, 1)" in (found.outcome.detail or "")


@pytest.mark.parametrize("tile", [8, 16])
def test_a_codestream_of_very_many_tiles_costs_no_more(
    tile: int, read: Callable[[Source], Read], tmp_path: Path
) -> None:
    path = tmp_path / "tiles.dcm"
    path.write_bytes(hostile.many_tiles(tile=tile))
    assert read(Source(str(path))).reason in (
        None,
        "DECODE_ERROR",
        "TOO_LARGE",
        "PIXELDATA_TRUNCATED",
    )


@pytest.mark.parametrize("size", [-1, None, LIMITS.file_bytes, 2**40])
def test_no_more_than_a_whole_file_is_read_for_a_header(size: int | None) -> None:
    stream = LIMITS.bounded(io.BytesIO(bytes(2 * LIMITS.file_bytes)))
    assert len(stream.read(512)) == 512
    # What is passed over costs nothing.
    assert stream.seek(4096) == stream.tell() == 4096
    with pytest.raises(Unreadable) as caught:
        stream.read(size)
    assert caught.value.reason == Failure.TOO_LARGE


UN, OB, SQ = b"UN", b"OB", b"SQ"
AGE, PRIVATE = b"\x10\x00\x10\x10", b"\x11\x00\x10\x10"
NEARLY_4_GIB = b"\xfe\xff\xff\xff"
SPARSE_FILES: dict[str, tuple[bytes, set[str]]] = {
    "zeros": (b"", {"UNRECOGNISED"}),
    "whole": (GOOD, {"TOO_LARGE"}),
    "pixels that go on": (
        hostile.endless_element(OB, b"\xe0\x7f\x10\x00"),
        {"TOO_LARGE"},
    ),
    "attribute of 4 GiB that is wanted": (
        hostile.endless_element(UN, AGE, NEARLY_4_GIB),
        {"TOO_LARGE"},
    ),
    # Behind it come 4 GiB of elements (0000,0000) without a value.
    "attribute of 4 GiB that is not": (
        hostile.endless_element(UN, PRIVATE, NEARLY_4_GIB),
        {"TOO_LARGE", "TIMEOUT"},
    ),
    "bytes that go on": (hostile.endless_element(OB, PRIVATE), {"TOO_LARGE"}),
    "sequence that goes on": (
        hostile.endless_element(SQ, PRIVATE),
        {"TOO_LARGE", "TIMEOUT"},
    ),
}


@pytest.mark.parametrize("listed", [False, True], ids=["unlisted", "listed"])
@pytest.mark.parametrize("name", SPARSE_FILES)
def test_a_file_of_8_gib_costs_no_more_than_the_limits(
    name: str, listed: bool, read: Callable[[Source], Read], tmp_path: Path
) -> None:
    data, reasons = SPARSE_FILES[name]
    path = tmp_path / "sparse.dcm"
    path.write_bytes(data)
    os.truncate(path, SPARSE)
    source = next(list_files(str(path))) if listed else Source(str(path))
    assert read(source).reason in reasons


def test_what_a_killed_process_had_found_is_in_the_row(
    read: Callable[[Source], Read], tmp_path: Path
) -> None:
    path = tmp_path / "scans.dcm"
    path.write_bytes(BOMBS["scans, in DICOM"][0]())
    found = read(Source(str(path), path.stat().st_size)).outcome
    assert (found.status, found.reason) == ("ERROR", "TIMEOUT")
    assert (found.rows, found.columns, found.modality) == (2000, 2000, "CR")
    assert (found.source_digest or "").startswith("blake3:")


def in_png() -> bytes:
    stream = io.BytesIO()
    noise = Image.effect_noise((1500, 1500), 50)
    noise.resize((6000, 6000)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@pytest.mark.parametrize("encoding", ["PNG", uid.JPEGLSLossless, uid.JPEGBaseline8Bit])
def test_a_picture_that_needs_more_memory_is_too_large_and_not_corrupt(
    encoding: str, tmp_path: Path
) -> None:
    pixels = np.ascontiguousarray(radiographs.chest(0.5, 6000, 6000))
    data = (
        in_png()
        if encoding == "PNG"
        else radiographs.to_bytes(radiographs.dicom(pixels, transfer_syntax=encoding))
    )
    path = tmp_path / "large"
    path.write_bytes(data)
    limits = replace(LIMITS, pixels=40_000_000, memory_bytes=30 * MIB, seconds=60.0)
    worker = Worker(
        replace(READING, limits=limits), Allowance(limits.seconds, limits.memory_bytes)
    )
    messages = list(worker.run(Source(str(path))))
    worker.close()
    assert messages[-1].reason == "TOO_LARGE"


def test_a_small_file_needs_no_buffer_for_the_largest(tmp_path: Path) -> None:
    path = tmp_path / "small.dcm"
    path.write_bytes(GOOD)
    limits = replace(LIMITS, file_bytes=2**30, memory_bytes=100 * MIB)
    worker = Worker(
        replace(READING, limits=limits), Allowance(limits.seconds, limits.memory_bytes)
    )
    assert isinstance(list(worker.run(Source(str(path))))[-1], Ready)
    worker.close()


@pytest.mark.parametrize(
    ("check", "within", "beyond"),
    [
        (Limits.check_file, (LIMITS.file_bytes,), (LIMITS.file_bytes + 1,)),
        (Limits.check_pixels, (2000, 2000), (2000, 2001)),
        (Limits.check_inflated, (LIMITS.inflated_bytes,), (LIMITS.inflated_bytes + 1,)),
    ],
)
def test_a_limit_is_the_largest_that_is_read(
    check: Callable[..., None], within: tuple[int, ...], beyond: tuple[int, ...]
) -> None:
    check(LIMITS, *within)
    with pytest.raises(Unreadable) as caught:
        check(LIMITS, *beyond)
    assert caught.value.reason == Failure.TOO_LARGE


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


def gone(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    "make", [fifo, folder, loop, dangling, gone], ids=lambda made: made.__name__
)
def test_what_is_no_file_is_a_row(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    make(path)
    clock = time.monotonic()
    found = last(Source(str(path)))
    assert time.monotonic() - clock < 1
    assert isinstance(found, Outcome)
    assert (found.status, found.reason) == ("ERROR", "READ_FAILED")
    assert "x.dcm" not in (found.detail or "")


@pytest.mark.parametrize("make", [fifo, folder, loop, dangling])
def test_what_is_no_file_is_listed_all_the_same(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "x.dcm"
    make(path)
    assert [s.uri for s in list_files(normalise(str(tmp_path)))] == [str(path)]


@pytest.fixture
def locked() -> Iterator[Path]:
    """A file, and a folder with one, that this process may not read."""
    # The folders of tmp_path are closed to others from above.
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "folder").mkdir()
        for file in ("x.dcm", "folder/y.dcm"):
            (top / file).write_bytes(GOOD)
            (top / file).chmod(0)
        (top / "folder").chmod(0)
        top.chmod(0o755)
        # Root may read anything.
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        yield top
        if is_root:
            os.seteuid(0)
        (top / "folder").chmod(0o700)


def test_what_may_not_be_read_is_a_row(locked: Path) -> None:
    sources = list(list_files(normalise(str(locked))))
    assert {Path(s.uri).name for s in sources} == {"x.dcm", "folder"}
    for source in sources:
        found = last(source)
        assert isinstance(found, Outcome)
        assert (found.reason, found.detail) == ("READ_FAILED", "Permission denied")


@pytest.mark.parametrize(
    "name",
    [
        b"a[1].dcm",
        b"*.dcm",
        b"?.dcm",
        b" two  spaces .dcm",
        b"new\nline.dcm",
        b"quote'\".dcm",
        b"100%25.dcm",
        b"-rf.dcm",
        b"caf\xe9.dcm",
        b"\xff\xfe%41.dcm",
        "Thorax für Ärzte 胸部.dcm".encode(),
        b"x" * 251 + b".dcm",
    ],
)
def test_a_file_of_any_name_is_listed_and_read(name: bytes, tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as stream:
        stream.write(GOOD)
    for pattern in (normalise(str(tmp_path)), normalise(os.fsdecode(path))):
        (source,) = list_files(pattern)
        assert source.uri.isprintable() or b"\n" in name
        assert source.size == len(GOOD)
        assert isinstance(last(source), Ready)


@pytest.mark.parametrize("seconds", [-(2**31), -1, 0, 2**31, 2**33, 2**34])
def test_any_time_of_change_is_read(seconds: int, tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(GOOD)
    os.utime(path, (seconds, seconds))
    (source,) = list_files(str(path))
    assert source.modified is not None
    assert isinstance(last(source), Ready)
