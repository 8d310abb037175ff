"""Rules 23 to 27 and 31 to 35: files as archives have them, and what they may cost."""

from __future__ import annotations

import gzip
import io
import logging
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from beam_pipeline import images, match
from beam_pipeline.errors import Flag, NotScored
from beam_pipeline.images import codecs
from beam_pipeline.images.rules import compiled
from beam_pipeline.limits import Limits
from beam_pipeline.process_pool import Allowance, Died, Worker
from beam_pipeline.read import Reading
from beam_pipeline.records import Outcome, Ready, Source
from tests import radiographs
from tests.radiographs import dicom, flags_of, header_of, picture_of, to_bytes


def ramp(bits: int = 12) -> np.ndarray:
    return radiographs.gradient(bits=bits)


def refused(data: bytes, uri: str = "", limits: Limits = images.Limits()) -> NotScored:  # noqa: B008
    with pytest.raises(NotScored) as caught:
        header = images.read_header(io.BytesIO(data), uri, limits=limits)
        images.decode(data, header, limits=limits)
    return caught.value


def end(path: Path, limits: Limits | None = None) -> Ready | Outcome:
    """What reading a file ends with."""
    found = radiographs.manifest()
    reading = Reading(
        preparation=found.preparation,
        rules=compiled(found),
        limits=limits or images.Limits(),
    )
    return list(reading(Source(str(path))))[-1]


def bare(syntax: str) -> tuple[bytes, bytes]:
    """A file, and its data set without preamble and File Meta Information."""
    whole = to_bytes(dicom(ramp(), transfer_syntax=syntax))
    length = dcmread(io.BytesIO(whole)).file_meta.FileMetaInformationGroupLength
    return whole, whole[132 + 12 + length :]


# Rule 23: preamble and File Meta Information


@pytest.mark.parametrize(
    "syntax",
    [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian],
)
def test_rule_23_a_bare_data_set_is_read(syntax: str) -> None:
    whole, data = bare(syntax)
    assert b"DICM" not in data[:200]
    np.testing.assert_array_equal(picture_of(data).pixels, picture_of(whole).pixels)
    assert header_of(data).transfer_syntax_uid == syntax


def test_rule_23_meta_information_without_a_preamble_is_read() -> None:
    whole, _ = bare(uid.ExplicitVRLittleEndian)
    found = picture_of(whole[132:])
    np.testing.assert_array_equal(found.pixels, picture_of(whole).pixels)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no DICOM at all\n" * 50, "UNRECOGNISED"),
        (b"\x08\x00 a text that begins like a group\n" * 50, "UNRECOGNISED"),
        (b"\x08\x00\x05\x00" + b"about 1.2.840.10008.1.2 " * 50, "CORRUPT_HEADER"),
        (b"\0" * 128 + b"DICM" + b"and then a text\n" * 50, "CORRUPT_HEADER"),
    ],
    ids=["text", "group 8", "group 8 and UID", "preamble"],
)
def test_rule_23_a_text_is_never_believed(data: bytes, reason: str) -> None:
    assert refused(data, "file.dcm").reason == reason


# Rule 24: transfer syntaxes

LOSSY = {
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.HTJ2K,
}


@pytest.mark.parametrize(
    "syntax",
    [*sorted(codecs.NATIVE), *codecs.DECODERS],
    ids=lambda syntax: uid.UID(syntax).keyword,
)
def test_rule_24_every_transfer_syntax_gives_the_same_picture(syntax: str) -> None:
    stored = ramp(bits=8).astype(np.uint8)
    found = picture_of(dicom(stored, transfer_syntax=syntax)).pixels
    difference = np.abs(found.astype(int) - picture_of(dicom(stored)).pixels).max()
    assert difference <= (4 if syntax in LOSSY else 0)


@pytest.mark.parametrize("unknown", ["1.2.840.10008.1.2.4.110", "1.2.3.4"])
def test_rule_24_one_without_a_decoder_is_named(unknown: str) -> None:
    dataset = dicom(ramp(), transfer_syntax=uid.JPEG2000Lossless)
    dataset.file_meta.TransferSyntaxUID = unknown
    stream = io.BytesIO()
    dataset.save_as(stream, implicit_vr=False, little_endian=True)
    found = refused(stream.getvalue())
    assert found.reason == "UNSUPPORTED_TRANSFER_SYNTAX"
    assert unknown in found.detail
    assert uid.UID(unknown).name in found.detail


def test_rule_24_what_a_decoder_refuses_is_an_error() -> None:
    dataset = dicom(ramp(), transfer_syntax=uid.JPEG2000Lossless)
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + b"\x55" * 400])
    assert refused(to_bytes(dataset)).reason == "DECODE_ERROR"


def test_rule_24_a_wrong_syntax_is_told_by_the_length() -> None:
    data = to_bytes(dicom(ramp()))
    native, declared = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"
    found = refused(data.replace(native, declared))
    assert found.reason == "DECODE_ERROR"
    assert "Transfer Syntax UID is wrong" in found.detail


# Rule 25: lossy compression


def test_rule_25_the_ratio_is_kept_and_the_file_accepted(tmp_path: Path) -> None:
    said = {"LossyImageCompression": "01", "LossyImageCompressionRatio": [4, 12.5]}
    found = radiographs.reading_of(dicom(ramp(), **said), tmp_path / "a.dcm")
    assert isinstance(found, Ready)
    assert found.outcome.lossy_image_compression_ratio == 12.5


# Rule 26: character sets


@pytest.mark.parametrize(
    "charset", ["ISO_IR 999", "ISO 2022 IR 87\\CANARY", "ISO_IR 192", "\\"]
)
def test_rule_26_no_text_can_fail_a_file(
    charset: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = {"SpecificCharacterSet": "X" * 16, "SeriesDescription": "Y" * 16}
    data = to_bytes(dicom(ramp(), ViewPosition=None, **said))
    undecodable = b"Canary\xff\xfe\x1b$B\x81\xd5 "
    data = data.replace(b"Y" * 16, undecodable.ljust(16))
    data = data.replace(b"X" * 16, charset.encode().ljust(16))
    data = data.replace(b"Canary^Patient", b"Canary\xff\x81\x1b$(D!")
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        found = radiographs.reading_of(data, tmp_path / "a.dcm")
    assert isinstance(found, Ready)
    assert found.outcome.flags == ("VIEW_UNKNOWN",)
    assert "anary" not in caplog.text + str(capfd.readouterr()) + str(found.outcome)


# Rule 27: values that are not of their VR


def patched(old: bytes, new: bytes, **attributes: object) -> bytes:
    data = to_bytes(dicom(ramp(), **attributes))
    assert data.count(old) == 1
    return data.replace(old, new)


def test_rule_27_a_decimal_comma_is_a_point() -> None:
    comma = patched(b"1234.5", b"1234,5", WindowCenter="1234.5", WindowWidth="2000")
    point = dicom(ramp(), WindowCenter="1234.5", WindowWidth="2000")
    found = picture_of(comma)
    np.testing.assert_array_equal(found.pixels, picture_of(point).pixels)
    assert (found.voi, found.flags) == ("window", ())


@pytest.mark.parametrize("end", [b"\0\0", b"  ", b" \0"])
def test_rule_27_a_uid_may_end_in_spaces_or_nul(end: bytes) -> None:
    data = patched(b"1.2.3.444", b"1.2.3.4" + end, StudyInstanceUID="1.2.3.444")
    assert header_of(data).study_instance_uid == "1.2.3.4"
    assert flags_of(data) == ()


@pytest.mark.parametrize("invalid", ["NAME^4711", "1.2.a.4", "1..2.3", "1." + "2" * 80])
@pytest.mark.parametrize("which", ["study", "series", "sop"])
def test_rule_27_an_invalid_uid_is_null_and_flagged(
    invalid: str, which: str, tmp_path: Path
) -> None:
    keyword = {"study": "Study", "series": "Series", "sop": "SOP"}[which]
    said = {f"{keyword}InstanceUID": invalid}
    found = radiographs.reading_of(dicom(ramp(), **said), tmp_path / "a.dcm")
    assert isinstance(found, Ready)
    assert getattr(found.outcome, f"{which}_instance_uid") is None
    assert found.outcome.flags == (Flag.INVALID_UID,)
    assert (found.outcome.source_digest or "").startswith("blake3:")
    assert invalid not in str(found.outcome)


@pytest.mark.parametrize("born", ["2020.01.31", "2020-01-31", "20200131  "])
def test_rule_27_old_and_padded_dates_are_read(born: str) -> None:
    said = {"PatientAge": None, "PatientBirthDate": born, "StudyDate": "20240130"}
    assert header_of(dicom(ramp(), **said)).patient_age_years == 3


def test_rule_27_a_number_that_is_none_is_as_if_absent() -> None:
    data = patched(b"7777", b"many", NumberOfFrames=7777)
    assert header_of(data).number_of_frames is None
    assert flags_of(data) == ()


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
    dataset.Rows, dataset.Columns = 60_000, 60_000
    found = refused(to_bytes(dataset))
    assert found.reason == "TOO_LARGE"
    assert "60000 × 60000" in found.detail


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
    listed = [Path(each.uri) for each in match.list_files(match.normalise(str(folder)))]
    assert sorted(path.name for path in listed) == sorted(expected)
    for path in listed:
        found = end(path)
        assert isinstance(found, Outcome)
        assert (found.status, found.reason) == ("REJECTED", expected[path.name][1])


def test_rule_35_a_hidden_radiograph_is_scored(tmp_path: Path) -> None:
    path = tmp_path / ".a.dcm"
    path.write_bytes(to_bytes(dicom(ramp())))
    assert isinstance(end(path), Ready)
