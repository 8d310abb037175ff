"""Rules 31 to 35: shutters, limits, encodings, names, and what stands beside images."""

from __future__ import annotations

import gzip
import io
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import uid
from pydicom.data import get_testdata_file

from beam_pipeline import images, storage
from beam_pipeline.errors import NotScored
from beam_pipeline.images.rules import compiled
from beam_pipeline.limits import Limits
from beam_pipeline.process_pool import Allowance, Died, Worker
from beam_pipeline.read import Reading
from beam_pipeline.records import Outcome, Ready, Source
from tests import radiographs
from tests.radiographs import dicom, picture_of, to_bytes


def ramp(bits: int = 12) -> np.ndarray:
    return radiographs.gradient(bits=bits)


def decoded(data: bytes, limits: Limits) -> images.Picture:
    header = images.read_header(io.BytesIO(data), limits=limits)
    return images.decode(data, header, limits=limits)


def refused(data: bytes, limits: Limits | None = None) -> NotScored:
    with pytest.raises(NotScored) as caught:
        decoded(data, limits or Limits())
    return caught.value


def end(path: Path, limits: Limits | None = None) -> Ready | Outcome:
    """What reading a file ends with."""
    found = radiographs.manifest()
    reading = Reading(
        preparation=found.preparation,
        rules=compiled(found),
        limits=limits or Limits(),
    )
    return list(reading(Source(str(path))))[-1]


# Rule 31: shutter


SHUTTERS = {
    "RECTANGULAR": {
        "ShutterLeftVerticalEdge": 10,
        "ShutterRightVerticalEdge": 61,
        "ShutterUpperHorizontalEdge": 20,
        "ShutterLowerHorizontalEdge": 71,
    },
    "CIRCULAR": {"CenterOfCircularShutter": [40, 35], "RadiusOfCircularShutter": 20},
    "POLYGONAL": {"VerticesOfThePolygonalShutter": [21, 11, 21, 60, 70, 60, 70, 11]},
}


def is_open(shape: str) -> np.ndarray:
    """Rows and columns count from 1; PS3.3 C.7.6.11."""
    rows, columns = np.mgrid[1:81, 1:71]
    if shape == "CIRCULAR":
        return (rows - 40) ** 2 + (columns - 35) ** 2 <= 20**2
    return (columns > 10) & (columns < 61) & (rows > 20) & (rows < 71)


@pytest.mark.parametrize("shape", SHUTTERS)
def test_rule_31_what_a_shutter_covers_is_in_no_percentile(shape: str) -> None:
    stored = ramp() // 4 + 500
    inside = is_open(shape)
    stored[~inside] = 4000
    said = {"ShutterShape": shape, "WindowCenter": None, "WindowWidth": None}
    found = picture_of(dicom(stored, **said, **SHUTTERS[shape]))
    low, high = np.percentile(stored[inside], [0.5, 99.5])
    expected = np.rint(np.clip((stored - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(found.pixels, expected)


def test_rule_31_a_window_does_not_ask_for_it() -> None:
    shuttered = dicom(ramp(), ShutterShape="CIRCULAR", **SHUTTERS["CIRCULAR"])
    found = picture_of(shuttered)
    np.testing.assert_array_equal(found.pixels, picture_of(dicom(ramp())).pixels)


# Rule 32: limits


def test_rule_32_too_many_pixels_are_refused_before_decoding() -> None:
    dataset = dicom(ramp(), transfer_syntax=uid.RLELossless)
    dataset.Rows, dataset.Columns = 7_000, 7_000
    found = refused(to_bytes(dataset))
    assert found.reason == "TOO_LARGE"
    assert "7000 × 7000" in found.detail


def test_rule_32_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(to_bytes(dicom(ramp())))
    found = end(path, Limits(file_bytes=path.stat().st_size - 1))
    assert isinstance(found, Outcome)
    assert (found.status, found.reason) == ("ERROR", "TOO_LARGE")
    assert isinstance(end(path, Limits(file_bytes=path.stat().st_size)), Ready)


def test_rule_32_a_deflated_bomb_is_refused() -> None:
    bomb = dicom(
        np.zeros((2000, 2000), np.uint16),
        transfer_syntax=uid.DeflatedExplicitVRLittleEndian,
    )
    data = to_bytes(bomb)
    assert len(data) < 50_000
    assert refused(data, limits=Limits(inflated_bytes=2**20)).reason == "TOO_LARGE"


def test_rule_32_a_file_that_takes_too_long_is_given_up() -> None:
    worker = Worker(time.sleep, Allowance(seconds=0.2, memory_bytes=2**30))
    with pytest.raises(Died) as caught:
        list(worker.run(60))
    worker.close()
    assert caught.value.timed_out
    assert caught.value.signal == signal.SIGALRM


# Rule 33: deflated and big endian


def test_rule_33_deflated_and_big_endian_files_of_other_makers() -> None:
    def real(name: str) -> np.ndarray:
        path = Path(str(get_testdata_file(name, download=False)))
        return picture_of(path.read_bytes()).pixels

    np.testing.assert_array_equal(real("MR_small_bigendian.dcm"), real("MR_small.dcm"))
    assert real("image_dfl.dcm").shape == (512, 512)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian]
)
def test_rule_33_they_give_the_same_picture(syntax: str, dtype: type) -> None:
    stored = radiographs.gradient(75, 71, bits=8).astype(dtype)
    found = picture_of(dicom(stored, transfer_syntax=syntax)).pixels
    np.testing.assert_array_equal(found, picture_of(dicom(stored)).pixels)


# Rule 34: content, and no extension


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(radiographs.chest(0.5)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("scan.dcm", "JPEG"),
        ("scan.png", "JPEG"),
        ("scan.jpg", "PNG"),
        ("IM000001", "DICOM"),
        ("scan.png", "DICOM"),
        ("scan.dcm.gz", "DICOM"),
    ],
)
def test_rule_34_the_content_tells_the_format(
    name: str, kind: str, tmp_path: Path
) -> None:
    film = dicom(radiographs.chest(0.5))
    path = tmp_path / name
    path.write_bytes(to_bytes(film) if kind == "DICOM" else encoded(kind))
    found = end(path)
    assert isinstance(found, Ready)
    assert found.outcome.format == kind


# Rule 35: archives and bystanders


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.dcm", data)
    return stream.getvalue()


def test_rule_35_bystanders_are_counted_and_no_errors(tmp_path: Path) -> None:
    film = to_bytes(dicom(ramp()))
    directory = Path(str(get_testdata_file("DICOMDIR", download=False)))
    expected = {
        "export.zip": (zipped(film), "ARCHIVE"),
        "a.dcm.gz": (gzip.compress(film), "ARCHIVE"),
        "._a.dcm": (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "NON_IMAGE"),
        ".DS_Store": (b"\x00\x00\x00\x01Bud1\x00", "NON_IMAGE"),
        ".hidden": (b"settings of a desktop", "NON_IMAGE"),
        ".nomedia": (b"", "NON_IMAGE"),
        "Thumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "NON_IMAGE"),
        "DICOMDIR": (directory.read_bytes(), "NON_IMAGE"),
        "VERSION": (b"1.0\n", "NON_IMAGE"),
        "LOCKFILE": (b"", "NON_IMAGE"),
        "readme.txt": (b"How to open these images", "NON_IMAGE"),
        "report.pdf": (b"%PDF-1.7", "NON_IMAGE"),
    }
    folder = tmp_path / "CD"
    folder.mkdir()
    for name, (data, _) in expected.items():
        (folder / name).write_bytes(data)
    listed = [
        Path(each.uri) for each in storage.list_files(storage.normalise(str(folder)))
    ]
    assert sorted(path.name for path in listed) == sorted(expected)
    for path in listed:
        found = end(path)
        assert isinstance(found, Outcome)
        assert (found.status, found.reason) == ("REJECTED", expected[path.name][1])


def test_rule_35_a_hidden_radiograph_is_scored(tmp_path: Path) -> None:
    path = tmp_path / ".a.dcm"
    path.write_bytes(to_bytes(dicom(ramp())))
    assert isinstance(end(path), Ready)
