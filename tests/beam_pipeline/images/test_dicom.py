from __future__ import annotations

import io

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from beam_pipeline import doctor, images
from beam_pipeline.errors import NotScored
from beam_pipeline.images import codecs, dicom
from tests import radiographs

SYNTAXES = [*sorted(codecs.NATIVE), *codecs.DECODERS]


def read(data: bytes) -> images.Picture:
    return images.decode(data, images.read_header(io.BytesIO(data)))


def header(**attributes: object) -> images.Header:
    dataset = radiographs.dicom(radiographs.gradient(), **attributes)
    return images.read_header(io.BytesIO(radiographs.to_bytes(dataset)))


def reason(data: bytes) -> str:
    with pytest.raises(NotScored) as caught:
        read(data)
    return str(caught.value.reason)


def real(name: str) -> bytes:
    with open(get_testdata_file(name, download=False), "rb") as stream:
        return stream.read()


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: uid.UID(s).keyword)
@pytest.mark.parametrize("bits", [8, 12])
def test_every_transfer_syntax_gives_the_same_picture(syntax: str, bits: int) -> None:
    if bits == 12 and syntax == uid.JPEGBaseline8Bit:
        bits = 8
    stored = radiographs.gradient(bits=bits)
    stored = stored.astype(np.uint8) if bits == 8 else stored
    plain = read(radiographs.to_bytes(radiographs.dicom(stored))).pixels
    dataset = radiographs.dicom(stored, transfer_syntax=syntax)
    found = read(radiographs.to_bytes(dataset)).pixels
    difference = np.abs(found.astype(int) - plain.astype(int)).max()
    assert difference <= (4 if syntax in radiographs.LOSSY else 0)


def test_signed_values_survive_every_lossless_syntax() -> None:
    stored = radiographs.gradient().astype(np.int16) - 2048
    window = {"WindowCenter": 0.0, "WindowWidth": 4096.0}
    plain = read(radiographs.to_bytes(radiographs.dicom(stored, **window))).pixels
    assert plain.min() == 0
    assert plain.max() == 255
    for syntax in (uid.JPEG2000Lossless, uid.RLELossless, uid.ExplicitVRBigEndian):
        dataset = radiographs.dicom(stored, transfer_syntax=syntax, **window)
        np.testing.assert_array_equal(read(radiographs.to_bytes(dataset)).pixels, plain)


@pytest.mark.parametrize("pair", [("RG1_UNCR", "RG1_J2KR"), ("RG1_UNCI", "RG1_J2KI")])
def test_a_real_radiograph_is_the_same_in_both_encodings(pair: tuple[str, str]) -> None:
    one, other = (read(real(f"{name}.dcm")) for name in pair)
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert one.voi == "window"


def test_a_real_chest_is_upright_with_dark_lungs() -> None:
    """RG1 is MONOCHROME1: lungs are dark and the spine bright once it is inverted."""
    pixels = read(real("RG1_UNCR.dcm")).pixels
    rows, columns = pixels.shape
    middle = slice(int(rows * 0.25), int(rows * 0.45))
    spine = pixels[middle, int(columns * 0.47) : int(columns * 0.53)].mean()
    lung = pixels[middle, int(columns * 0.62) : int(columns * 0.75)].mean()
    assert spine > lung + 30


def test_reads_deflated_and_rle_files_of_other_makers() -> None:
    assert read(real("image_dfl.dcm")).pixels.shape == (512, 512)
    plain = read(real("MR_small.dcm")).pixels
    for name in (
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
    ):
        np.testing.assert_array_equal(read(real(name)).pixels, plain, err_msg=name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MR_truncated.dcm", "PIXELDATA_TRUNCATED"),
        ("rtplan.dcm", "NO_PIXEL_DATA"),
        ("liver_1frame.dcm", "UNSUPPORTED_PIXELS"),
        ("OBXXXX1A.dcm", "COLOR_IMAGE"),
        ("SC_rgb.dcm", "COLOR_IMAGE"),
        ("SC_ybr_full_uncompressed.dcm", "COLOR_IMAGE"),
        ("SC_rgb_rle.dcm", "COLOR_IMAGE"),
        ("README.txt", "UNRECOGNISED"),
    ],
)
def test_real_files_without_a_picture_say_why(name: str, expected: str) -> None:
    assert reason(real(name)) == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"PhotometricInterpretation": None}, "MISSING_PHOTOMETRIC"),
        ({"Rows": None}, "CORRUPT_HEADER"),
        ({"Columns": 0}, "CORRUPT_HEADER"),
        ({"Rows": 65535, "Columns": 65535}, "TOO_LARGE"),
        ({"Rows": 81}, "PIXELDATA_TRUNCATED"),
        ({"BitsStored": 0}, "UNSUPPORTED_PIXELS"),
        ({"BitsStored": 17}, "UNSUPPORTED_PIXELS"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "BAD_RESCALE"),
    ],
    ids=str,
)
def test_a_broken_header_says_why(attributes: dict, expected: str) -> None:
    dataset = radiographs.dicom(radiographs.gradient())
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    assert reason(radiographs.to_bytes(dataset)) == expected


def test_absent_pixel_data_is_said() -> None:
    dataset = radiographs.dicom(radiographs.gradient())
    del dataset.PixelData
    assert reason(radiographs.to_bytes(dataset)) == "NO_PIXEL_DATA"


def test_an_unknown_transfer_syntax_is_named() -> None:
    dataset = radiographs.dicom(
        radiographs.gradient(), transfer_syntax=uid.JPEG2000Lossless
    )
    known, unknown = b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.99"
    data = radiographs.to_bytes(dataset).replace(known, unknown)
    with pytest.raises(NotScored, match=r"UNSUPPORTED_TRANSFER_SYNTAX.*1\.2\.4\.99"):
        read(data)


def test_a_codestream_of_another_size_is_no_picture() -> None:
    dataset = radiographs.dicom(
        radiographs.gradient(), transfer_syntax=uid.JPEG2000Lossless
    )
    dataset.Rows = 59
    assert reason(radiographs.to_bytes(dataset)) == "DECODE_ERROR"


@pytest.mark.parametrize("syntax", codecs.DECODERS, ids=lambda s: uid.UID(s).keyword)
def test_a_cut_codestream_is_never_a_picture(syntax: str) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (64, 64)).astype(np.uint8)
    data = radiographs.to_bytes(radiographs.dicom(noise, transfer_syntax=syntax))
    assert reason(data[: len(data) // 2]) in {
        "PIXELDATA_TRUNCATED",
        "DECODE_ERROR",
        "NO_PIXEL_DATA",
    }


def test_reads_a_file_without_preamble() -> None:
    dataset = radiographs.dicom(
        radiographs.gradient(), transfer_syntax=uid.ImplicitVRLittleEndian
    )
    whole = radiographs.to_bytes(dataset)
    offset = (
        132 + 12 + dcmread(io.BytesIO(whole)).file_meta.FileMetaInformationGroupLength
    )
    bare = whole[offset:]
    assert dicom.sniff(bare[:512])
    np.testing.assert_array_equal(read(bare).pixels, read(whole).pixels)


def test_the_header_holds_the_facts() -> None:
    found = header(
        PatientAge="018M", PatientSex="F", NumberOfFrames="1", Modality="cr "
    )
    assert found.modality == "CR"
    assert found.patient_age_years == pytest.approx(1.5)
    assert found.patient_sex == "F"
    assert (found.rows, found.columns, found.bits_stored) == (80, 70, 12)
    assert found.transfer_syntax_uid == uid.ExplicitVRLittleEndian


@pytest.mark.parametrize(
    ("attribute", "field"),
    [
        ("BodyPartExamined", "body_part"),
        ("ViewPosition", "view_position"),
        ("Modality", "modality"),
        ("PatientSex", "patient_sex"),
        ("StudyInstanceUID", "study_instance_uid"),
        ("SOPInstanceUID", "sop_instance_uid"),
    ],
)
def test_a_name_in_the_wrong_place_is_not_repeated(attribute: str, field: str) -> None:
    found = header(**{attribute: "Canary^Patient, 4711"})
    assert "CANARY" not in str(found).upper()
    assert getattr(found, field) in (None, "NOT_A_CODE")


def test_values_of_the_wrong_type_do_not_break_the_header() -> None:
    found = header(NumberOfFrames=None, PatientAge="old")
    assert found.patient_age_years is None
    assert found.number_of_frames is None


def test_near_grey_colour_becomes_its_luminance() -> None:
    grey = radiographs.chest(0.5)
    rgb = np.stack([grey] * 3, axis=-1)
    dataset = radiographs.dicom(
        rgb, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    np.testing.assert_array_equal(read(radiographs.to_bytes(dataset)).pixels, grey)


def test_planar_colour_is_the_same_picture() -> None:
    grey = radiographs.chest(0.5)
    planes = np.stack([grey] * 3)
    dataset = radiographs.dicom(
        np.stack([grey] * 3, axis=-1),
        PhotometricInterpretation="RGB",
        PlanarConfiguration=1,
    )
    dataset.PixelData = planes.tobytes()
    np.testing.assert_array_equal(read(radiographs.to_bytes(dataset)).pixels, grey)


def test_a_constant_image_is_rejected() -> None:
    data = radiographs.to_bytes(radiographs.dicom(np.full((20, 20), 7, np.uint16)))
    assert reason(data) == "CONSTANT_IMAGE"


@pytest.mark.parametrize(
    "syntax",
    [uid.JPEGBaseline8Bit, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.HTJ2KLossless],
    ids=lambda s: uid.UID(s).keyword,
)
def test_a_cut_fragment_in_a_whole_file_is_never_a_picture(syntax: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    dataset = radiographs.dicom(noise, transfer_syntax=syntax)
    frame = bytes(doctor.ENCODERS[syntax](noise))
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    assert reason(radiographs.to_bytes(dataset)) in {
        "PIXELDATA_TRUNCATED",
        "DECODE_ERROR",
    }


@pytest.mark.parametrize("name", ["Smith John", "4711123"])
@pytest.mark.parametrize("attribute", ["BodyPartExamined", "StudyInstanceUID"])
def test_what_looks_like_a_name_or_number_is_not_repeated(
    name: str, attribute: str
) -> None:
    if (name, attribute) == ("4711123", "BodyPartExamined"):
        return
    assert name.upper() not in str(header(**{attribute: name})).upper()


def test_a_bare_big_endian_file_is_read_in_its_byte_order() -> None:
    dataset = radiographs.dicom(
        radiographs.gradient(), transfer_syntax=uid.ExplicitVRBigEndian
    )
    whole = radiographs.to_bytes(dataset)
    length = dcmread(io.BytesIO(whole)).file_meta.FileMetaInformationGroupLength
    bare = whole[132 + 12 + length :]
    np.testing.assert_array_equal(read(bare).pixels, read(whole).pixels)


def test_a_number_that_no_column_holds_is_left_out() -> None:
    dataset = radiographs.dicom(radiographs.gradient())
    del dataset.BitsStored
    dataset.add_new("BitsStored", "UL", 4294967295)
    found = images.read_header(io.BytesIO(radiographs.to_bytes(dataset)))
    assert found.bits_stored is None


def test_three_samples_of_monochrome_are_no_picture() -> None:
    rgb = np.stack([radiographs.chest(0.5)] * 3, axis=-1)
    dataset = radiographs.dicom(rgb, PlanarConfiguration=0)
    assert reason(radiographs.to_bytes(dataset)) == "UNSUPPORTED_PIXELS"
