"""Rules 8 to 11: padding, bits, length and number of frames."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import uid

from beam_pipeline.errors import Flag
from tests import radiographs
from tests.radiographs import (
    dicom,
    flags_of,
    picture_of,
    reason_of,
    refusal_of,
    rendered,
    shades,
)


def ramp(bits: int = 12) -> np.ndarray:
    return radiographs.gradient(bits=bits)


# Rule 8: Pixel Padding Value


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_rule_08_padding_is_black_and_in_no_percentile(photometric: str) -> None:
    image = radiographs.gradient(bits=10) + 1000
    padded = np.concatenate([np.full((40, 70), 4000, np.uint16), image])
    said = {
        "WindowCenter": None,
        "WindowWidth": None,
        "PhotometricInterpretation": photometric,
    }
    found = picture_of(dicom(padded, PixelPaddingValue=4000, **said)).pixels
    assert (found[:40] == 0).all()
    plain = picture_of(dicom(image, **said)).pixels
    np.testing.assert_array_equal(found[40:], plain)


def test_rule_08_a_range_is_padding_as_a_whole() -> None:
    stored = [0, 50, 100, 101, 3000, 4095]
    said = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 100}
    said["PhotometricInterpretation"] = "MONOCHROME1"
    found = shades(stored, **said)
    assert found[:3] == [0, 0, 0]
    assert found[3] > found[4] > 0


def test_rule_08_the_value_is_that_before_the_modality_lut() -> None:
    rescale = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    found = shades([0, 1000, 4095], PixelPaddingValue=0, **rescale)
    # Rescaled, 0 becomes the brightest, and 4095 the padding value.
    assert found[0] == 0
    assert found[1] == pytest.approx(193, abs=1)


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian]
)
def test_rule_08_the_value_is_signed_as_the_pixels_are(syntax: str) -> None:
    found = shades(
        [-2000, -500, 500],
        np.int16,
        transfer_syntax=syntax,
        PixelPaddingValue=-2000,
        WindowCenter=0,
        WindowWidth=1001,
        PhotometricInterpretation="MONOCHROME1",
    )
    assert found == [0, 255, 0]


def test_rule_08_a_value_that_cannot_be_stored_is_ignored_and_flagged() -> None:
    found = picture_of(dicom(ramp(), PixelPaddingValue=5000))
    np.testing.assert_array_equal(found.pixels, picture_of(dicom(ramp())).pixels)
    assert found.flags == (Flag.BAD_PADDING,)


# Rule 9: Bits Stored, High Bit, Pixel Representation

WIDE = {"WindowCenter": 0, "WindowWidth": 4096, "VOILUTFunction": "LINEAR_EXACT"}


def test_rule_09_the_sign_is_that_of_the_stored_bits() -> None:
    # 12 bits: 0x800 is −2048 and 0xFFF is −1, with copies of the sign or without.
    patterns = [0x800, 0xF800, 0xFFF, 0xFFFF, 0x7FF]
    greys, found = rendered(patterns, PixelRepresentation=1, **WIDE)
    assert greys == [0, 0, 127, 127, 255]
    assert found.flags == ()


@pytest.mark.parametrize(
    "said", [{}, {"OverlayBitsAllocated": 16, "OverlayBitPosition": 12}], ids=len
)
def test_rule_09_an_overlay_above_is_no_part_of_the_value(said: dict) -> None:
    stored = ramp()
    overlaid = stored.copy()
    # Declared, it may be the next bit; else it is apart from the value.
    overlaid[10:20, 10:20] |= 0x1000 if said else 0x8000
    dataset = dicom(overlaid)
    for tag, value in zip((0x60020100, 0x60020102), said.values(), strict=False):
        dataset.add_new(tag, "US", value)
    found = picture_of(dataset)
    np.testing.assert_array_equal(found.pixels, picture_of(dicom(stored)).pixels)
    assert found.flags == (Flag.UNUSED_BITS_SET,)


def test_rule_09_values_beyond_bits_stored_do_not_wrap() -> None:
    """A 13-bit image that calls itself 12 bits: 5000 would become 904."""
    stored = ramp(bits=13)
    window = {"WindowCenter": 3000, "WindowWidth": 4000}
    found = picture_of(dicom(stored, bits_stored=12, **window))
    whole = picture_of(dicom(stored, bits_stored=13, **window))
    np.testing.assert_array_equal(found.pixels, whole.pixels)
    assert found.flags == (Flag.UNUSED_BITS_SET,)


def test_rule_09_a_high_bit_above_moves_the_value_down() -> None:
    found = picture_of(dicom(ramp() << 4, HighBit=15))
    np.testing.assert_array_equal(found.pixels, picture_of(dicom(ramp())).pixels)
    assert found.flags == ()


@pytest.mark.parametrize("high_bit", [None, 3, 16, 255])
def test_rule_09_a_high_bit_that_makes_no_sense_is_derived(high_bit: int) -> None:
    dataset = dicom(ramp())
    del dataset.HighBit
    if high_bit is not None:
        dataset.HighBit = high_bit
    found = picture_of(dataset)
    np.testing.assert_array_equal(found.pixels, picture_of(dicom(ramp())).pixels)


# Rule 10: length of Pixel Data


@pytest.mark.parametrize("missing", [2, 1000, 80 * 70 * 2 - 2])
def test_rule_10_fewer_bytes_than_promised_are_an_error(missing: int) -> None:
    dataset = dicom(ramp())
    dataset.PixelData = dataset.PixelData[:-missing]
    assert reason_of(dataset) == "PIXELDATA_TRUNCATED"


def test_rule_10_a_cut_file_is_an_error() -> None:
    data = radiographs.to_bytes(dicom(ramp()))
    for missing in (1, 2, 500, 11_000):
        assert reason_of(data[:-missing]) == "PIXELDATA_TRUNCATED", missing


def test_rule_10_one_byte_of_padding_is_legal() -> None:
    odd = radiographs.gradient(71, 67, bits=8).astype(np.uint8)
    dataset = dicom(odd, WindowCenter=128, WindowWidth=256)
    assert len(dataset.PixelData) == 71 * 67 + 1
    found = picture_of(dataset)
    np.testing.assert_array_equal(found.pixels, odd)
    assert found.flags == ()


def test_rule_10_excess_is_no_further_frame() -> None:
    dataset = dicom(ramp())
    dataset.PixelData += np.full(ramp().shape, 7, np.uint16).tobytes()
    found = picture_of(dataset)
    np.testing.assert_array_equal(found.pixels, picture_of(dicom(ramp())).pixels)
    assert found.flags == (Flag.EXCESS_PIXEL_DATA,)


# Rule 11: multi-frame


@pytest.mark.parametrize("frames", [2, 30])
def test_rule_11_several_frames_are_rejected(frames: int) -> None:
    assert refusal_of(dicom(ramp(), NumberOfFrames=frames)) == "MULTIFRAME"


@pytest.mark.parametrize("frames", [None, "", 1], ids=repr)
def test_rule_11_one_frame_or_none_said_is_one(frames: object) -> None:
    dataset = dicom(ramp(), NumberOfFrames=frames)
    assert flags_of(dataset) == ()
    assert picture_of(dataset).pixels.shape == (80, 70)
