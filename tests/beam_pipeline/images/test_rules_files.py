"""Rules 23 to 27: files as archives have them."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate

from beam_pipeline.errors import Flag, NotScored
from beam_pipeline.records import Ready
from tests import radiographs
from tests.radiographs import dicom, flags_of, header_of, picture_of, to_bytes


def ramp(bits: int = 12) -> np.ndarray:
    return radiographs.gradient(bits=bits)


def refused(data: bytes) -> NotScored:
    with pytest.raises(NotScored) as caught:
        picture_of(data)
    return caught.value


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
    assert refused(data).reason == reason


# Rule 24: transfer syntaxes

SYNTAXES = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda each: uid.UID(each).keyword)
def test_rule_24_every_transfer_syntax_gives_the_same_picture(syntax: str) -> None:
    stored = ramp(bits=8).astype(np.uint8)
    found = picture_of(dicom(stored, transfer_syntax=syntax)).pixels
    difference = np.abs(found.astype(int) - picture_of(dicom(stored)).pixels).max()
    assert difference <= (4 if syntax in radiographs.LOSSY else 0)


@pytest.mark.parametrize("unknown", [uid.MPEG2MPML, "1.2.3.4"])
def test_rule_24_one_without_a_decoder_is_named(unknown: str) -> None:
    dataset = dicom(ramp(), transfer_syntax=uid.JPEG2000Lossless)
    dataset.file_meta.TransferSyntaxUID = unknown
    stream = io.BytesIO()
    dataset.save_as(stream, implicit_vr=False, little_endian=True)
    found = refused(stream.getvalue())
    assert found.reason == "UNSUPPORTED_TRANSFER_SYNTAX"
    assert unknown in found.detail
    assert uid.UID(unknown).name in found.detail


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (uid.RLELossless, b"\x55" * 400),
        (uid.JPEGLSLossless, b"\x55" * 400),
        (uid.JPEG2000Lossless, b"\xff\x4f\xff\x51" + b"\x55" * 400),
    ],
    ids=["RLE", "JPEG-LS", "JPEG 2000"],
)
def test_rule_24_what_a_decoder_refuses_is_an_error(syntax: str, frame: bytes) -> None:
    dataset = dicom(ramp(), transfer_syntax=syntax)
    dataset.PixelData = encapsulate([frame])
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
    "charset", ["ISO_IR 999", "ISO 2022 IR 87\\X", "ISO_IR 192", "\\"]
)
def test_rule_26_no_text_can_fail_a_file(
    charset: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = b"ISO 2022 IR 100 "
    said = {"SpecificCharacterSet": "ISO 2022 IR 100", "SeriesDescription": "Y" * 16}
    data = to_bytes(dicom(ramp(), ViewPosition=None, **said))
    assert known in data
    undecodable = b"Canary\xff\xfe\x1b$B\x81\xd5 "
    data = data.replace(b"Y" * 16, undecodable.ljust(16))
    data = data.replace(known, charset.encode().ljust(16))
    data = data.replace(b"Canary^Patient", b"Canary\xff\x81\x1b$(D!!")
    with caplog.at_level(logging.DEBUG):
        found = radiographs.reading_of(data, tmp_path / "a.dcm")
    assert isinstance(found, Ready)
    assert found.outcome.flags == ("VIEW_UNKNOWN",)
    assert caplog.text == ""
    assert "anary" not in str(capfd.readouterr()) + str(found.outcome)


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
