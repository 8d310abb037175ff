"""An archive of which a third is hostile, scored by the command line as it is run."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import data_store
import numpy as np
import pyarrow.parquet as pq
import pydicom.data
import pytest
from PIL import Image
from pydicom import uid

from beam_pipeline.errors import Failure, Rejection
from beam_pipeline.images import codecs
from beam_pipeline.storage import list_files
from benchmarks.watched import run
from tests import hostile, radiographs

pytestmark = pytest.mark.slow

FILES = 2000
MIB, GIB = 2**20, 2**30
MEMORY = 1.5e9
SECONDS_A_FILE = 5.0
# Half of the default: two reading processes may be at their largest at the same time.
MEMORY_A_FILE = 256 * MIB
LARGEST_REAL = 200_000
KNOWN = {*map(str, Rejection), *map(str, Failure)} - {Failure.INTERNAL_ERROR}

Random = np.random.Generator
# What a file must end as; None where it depends on what became of it.
Kind = tuple[Callable[[Path, Random], object], str | None]


def real_files() -> list[bytes]:
    """The smaller ones of pydicom's test files, DICOM and broken ones alike."""
    folders = (
        Path(pydicom.data.__file__).parent / "test_files",
        Path(data_store.__file__).parent / "data",
    )
    paths = (path for folder in folders for path in sorted(folder.rglob("*.dcm")))
    return [p.read_bytes() for p in paths if p.stat().st_size <= LARGEST_REAL]


REAL = real_files()


def real(random: Random) -> bytes:
    return REAL[random.integers(len(REAL))]


def truncated(path: Path, random: Random) -> None:
    data = real(random)
    path.write_bytes(data[: random.integers(len(data))])


def flipped(path: Path, random: Random) -> None:
    data = bytearray(real(random))
    for position in random.integers(len(data), size=random.integers(1, 100)):
        data[position] ^= 1 << random.integers(8)
    path.write_bytes(data)


def wrong_syntax(path: Path, random: Random) -> None:
    """File Meta Information of one transfer syntax before pixels of another."""
    syntaxes = [*codecs.DECODERS, *codecs.NATIVE]
    dataset = hostile.dicom()
    dataset.file_meta.TransferSyntaxUID = uid.UID(random.choice(syntaxes))
    if dataset.file_meta.TransferSyntaxUID not in codecs.NATIVE:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    try:
        path.write_bytes(radiographs.to_bytes(dataset))
    except ValueError:
        # pydicom refuses to write some of them; the bytes of another do as well.
        data = radiographs.to_bytes(hostile.dicom())
        path.write_bytes(
            data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
        )


def zipped(path: Path, random: Random) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.dcm", real(random))


def tarred(path: Path, random: Random) -> None:
    with tarfile.open(path, "w") as archive:
        data = real(random)
        member = tarfile.TarInfo("a.dcm")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


def sparse(data: bytes) -> Callable[[Path, Random], None]:
    def write(path: Path, _: Random) -> None:
        path.write_bytes(data)
        os.truncate(path, 8 * GIB)

    return write


def fixed(data: bytes) -> Callable[[Path, Random], object]:
    return lambda path, _: path.write_bytes(data)


def kinds() -> list[Kind]:
    """What a third of the archive consists of, in turn."""
    private, age = b"\x11\x00\x10\x10", b"\x10\x00\x10\x10"
    nearly_4_gib = b"\xfe\xff\xff\xff"
    often: list[Kind] = [
        (truncated, None),
        (flipped, None),
        (wrong_syntax, None),
        (fixed(hostile.text(50)), "UNRECOGNISED"),
        (fixed(b""), "EMPTY_FILE"),
        (zipped, "ARCHIVE"),
        (tarred, "ARCHIVE"),
        (lambda path, random: path.write_bytes(b"\1" + random.bytes(900)), None),
        (lambda path, _: os.mkfifo(path), "READ_FAILED"),
        (lambda path, _: path.mkdir(), "READ_FAILED"),
        (lambda path, _: path.symlink_to(path), "READ_FAILED"),
        (lambda path, _: path.symlink_to(path.parent), "READ_FAILED"),
        (lambda path, _: path.symlink_to("gone"), "READ_FAILED"),
        (fixed(hostile.huge_rows()), "TOO_LARGE"),
        (fixed(hostile.huge_rows(uid.JPEG2000Lossless)), "TOO_LARGE"),
        (fixed(hostile.larger_codestream(uid.JPEGLSLossless)), "DECODE_ERROR"),
        (fixed(hostile.larger_codestream(uid.JPEG2000Lossless)), "DECODE_ERROR"),
        (fixed(hostile.many_tiles()), "PIXELDATA_TRUNCATED"),
        (fixed(hostile.nested(10_000)), "CORRUPT_HEADER"),
        (fixed(hostile.png(65535, 65535)), "TOO_LARGE"),
        (fixed(hostile.png_text_bomb(256 * MIB)), "CORRUPT_HEADER"),
        (fixed(hostile.png_profile_bomb(256 * MIB)), "CORRUPT_HEADER"),
        (fixed(hostile.jpeg_behind_garbage(65500, 65500)), "TOO_LARGE"),
        (sparse(b""), "UNRECOGNISED"),
        (sparse(radiographs.to_bytes(hostile.dicom())), "TOO_LARGE"),
        (sparse(hostile.endless_element(b"UN", age, nearly_4_gib)), "TOO_LARGE"),
    ]
    costly: list[Kind] = [
        (fixed(hostile.deflate_bomb(400 * MIB)), "TOO_LARGE"),
        (fixed(hostile.empty_items(2_000_000)), None),
        (fixed(hostile.rle_bomb(GIB)), "DECODE_ERROR"),
        (fixed(hostile.many_scans(4000, 4000, 100_000)), "TIMEOUT"),
        (sparse(hostile.endless_element(b"UN", private, nearly_4_gib)), None),
        (sparse(hostile.endless_element(b"OB", private)), "TOO_LARGE"),
        (sparse(hostile.endless_element(b"SQ", private)), None),
    ]
    return often * 8 + costly


@dataclass(frozen=True)
class Entry:
    """A name in the archive, and what its row must say; see `Kind`."""

    uri: str
    status: str | None
    reason: str | None


def good(path: Path, number: int) -> None:
    brightness = 0.2 + 0.6 * (number % 100) / 100
    dataset = radiographs.dicom(
        np.ascontiguousarray(radiographs.chest(brightness, 600, 500)),
        transfer_syntax=list(codecs.DECODERS)[number % 3],
        StudyInstanceUID=f"1.2.3.{number % 400}",
    )
    path.write_bytes(radiographs.to_bytes(dataset))


def good_png(path: Path, number: int) -> None:
    picture = radiographs.chest(0.2 + number / FILES / 2, 600, 500)
    Image.fromarray(picture).save(path, "PNG")


def name_of(number: int) -> bytes:
    """Names of all sorts, of which one in seven is no UTF-8."""
    patterns = (
        b"%d.dcm",
        b"a [%d]*.dcm",
        b"%d",
        b"caf\xe9 %d.dcm",
        b"%d\n.dcm",
        "胸部 %d.dcm".encode(),
        b"%%41 %d.dcm",
    )
    return patterns[number % len(patterns)] % number


def build(folder: Path) -> list[Entry]:
    """Write the archive; what must come of each of its names."""
    hostile_kinds, entries = kinds(), []
    for number in range(FILES):
        below = folder / f"{number % 10}"
        below.mkdir(parents=True, exist_ok=True)
        path = below / os.fsdecode(name_of(number))
        status, reason = "SCORED", None
        if number % 3 == 2:
            write, reason = hostile_kinds[number // 3 % len(hostile_kinds)]
            write(path, np.random.default_rng(number))
            status = None
            if path.is_dir() and not path.is_symlink():
                path = path.rename(path.with_name(f"{number}.dcm"))
        else:
            (good if number % 6 else good_png)(path, number)
            os.utime(path, (2**33 * (number % 2), 2**33 * (number % 2)))
        entries.append(Entry(uri_of(path), status, reason))
    return entries


def uri_of(path: Path) -> str:
    data = os.fsencode(path)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "file://" + quote(data)


@pytest.mark.timeout(900)
def test_every_file_of_a_hostile_archive_has_its_row(
    tmp_path: Path, model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = build(tmp_path / "in")
    assert len(list(list_files(f"{tmp_path}/in/**"))) == FILES
    finished = run(
        "score",
        f"--input={tmp_path / 'in'}",
        f"--output={tmp_path / 'out'}",
        f"--model={model_dir}",
        f"--max_seconds={SECONDS_A_FILE}",
        f"--max_memory_bytes={MEMORY_A_FILE}",
        "--run_id=hostile",
    )
    with capsys.disabled():
        print(
            f"\n{finished.printed[-3000:]}\n"
            f"peak memory {finished.peak / 1e9:.2f} GB, of one reading process "
            f"{finished.peak_of_one_child / 1e9:.2f} GB; {finished.seconds:.0f} s"
        )
    assert finished.returncode == 0
    rows = pq.read_table(tmp_path / "out" / "instances").to_pylist()
    document = json.loads((tmp_path / "out/runs/hostile/run.json").read_text("utf-8"))
    check_rows(rows, entries)
    check_counts(document, rows)
    assert (tmp_path / "out/runs/hostile/_SUCCESS").exists()
    assert "anary" not in f"{rows} {document} {finished.printed}"
    assert finished.peak < MEMORY


def check_rows(rows: list[dict], entries: list[Entry]) -> None:
    assert sorted(row["source_uri"] for row in rows) == sorted(e.uri for e in entries)
    found = {row["source_uri"]: row for row in rows}
    wrong = []
    for entry in entries:
        row = found[entry.uri]
        known = row["reason"] in KNOWN or row["status"] == "SCORED"
        as_expected = entry.status in (None, row["status"]) and (
            entry.reason in (None, row["reason"])
        )
        if not (known and as_expected):
            wrong.append((entry, row["status"], row["reason"], row["detail"]))
    assert not wrong, wrong[:20]


def check_counts(document: dict, rows: list[dict]) -> None:
    statuses = Counter(row["status"] for row in rows)
    reasons = Counter((row["status"], row["reason"]) for row in rows if row["reason"])
    assert document["listed"] == document["rows"] == FILES
    assert document["statuses"] == {s: statuses[s] for s in document["statuses"]}
    assert reasons == {
        (status, reason): count
        for status, counts in document["reasons"].items()
        for reason, count in counts.items()
    }
    studies = {row["study_instance_uid"] for row in rows} - {None}
    assert document["studies"] == len(studies)
