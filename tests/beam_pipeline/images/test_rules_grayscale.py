"""Rules 1 to 7: stored value → grey, each against the formula or a sum done by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from beam_pipeline.errors import Flag, Unreadable
from beam_pipeline.records import Outcome
from tests import radiographs
from tests.radiographs import dicom, picture_of, rendered, shades

EXACT = {"VOILUTFunction": "LINEAR_EXACT"}


def ramp(bits: int = 12) -> np.ndarray:
    return radiographs.gradient(bits=bits)


# Rule 1: Photometric Interpretation


def test_rule_01_monochrome1_is_inverted_after_the_window() -> None:
    window = {"WindowCenter": 200, "WindowWidth": 200, **EXACT}
    values = [0, 100, 150, 250, 300, 4000]
    assert shades(values, **window) == [0, 0, 64, 191, 255, 255]
    inverted = shades(values, PhotometricInterpretation="MONOCHROME1", **window)
    assert inverted == [255, 255, 191, 64, 0, 0]


def test_rule_01_the_output_range_is_inverted_and_not_that_of_the_image() -> None:
    window = {"WindowCenter": 200, "WindowWidth": 200, **EXACT}
    found = shades([150, 170], PhotometricInterpretation="MONOCHROME1", **window)
    # (170 − 200) / 200 + 0.5 = 0.35; the maximum less the value would give 0.
    assert found == [round(255 * 0.75), round(255 * 0.65)]


def test_rule_01_a_file_that_does_not_say_is_an_error(tmp_path: Path) -> None:
    silent = dicom(ramp(), PhotometricInterpretation=None)
    found = radiographs.reading_of(silent, tmp_path / "a.dcm")
    assert isinstance(found, Outcome)
    assert (found.status, found.reason) == ("ERROR", "MISSING_PHOTOMETRIC")


# Rule 2: Presentation LUT Shape


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_rule_02_the_shape_never_inverts_again(photometric: str, shape: str) -> None:
    said = {"PhotometricInterpretation": photometric}
    shaped = dicom(ramp(), PresentationLUTShape=shape, **said)
    plain = picture_of(dicom(ramp(), **said))
    np.testing.assert_array_equal(picture_of(shaped).pixels, plain.pixels)
    agrees = (photometric == "MONOCHROME1") == (shape == "INVERSE")
    expected = () if agrees else (Flag.PI_PLUT_CONFLICT,)
    assert radiographs.flags_of(shaped) == expected


# Rule 3: Modality LUT


def test_rule_03_a_negative_slope_comes_before_the_window() -> None:
    agfa = {"RescaleSlope": -10, "RescaleIntercept": 3000}
    window = {"WindowCenter": 1500, "WindowWidth": 3000, **EXACT}
    assert shades([0, 100, 200, 300], **agfa, **window) == [255, 170, 85, 0]


def test_rule_03_the_sequence_counts_and_not_the_slope() -> None:
    greys = shades(
        [0, 1, 2, 3],
        ModalityLUTSequence=[radiographs.lut(0, [3000, 0, 1000, 2000])],
        RescaleSlope=5,
        RescaleIntercept=0,
        WindowCenter=1500,
        WindowWidth=3000,
        **EXACT,
    )
    assert greys == [255, 0, 85, 170]


def test_rule_03_an_empty_slope_is_an_absent_one() -> None:
    empty = dicom(ramp(), RescaleSlope="", RescaleIntercept="")
    found = picture_of(empty)
    np.testing.assert_array_equal(found.pixels, picture_of(dicom(ramp())).pixels)
    assert found.flags == ()


@pytest.mark.parametrize("written", [b"0     ", b"nan   ", b"-inf  ", b"abc   "])
def test_rule_03_a_slope_that_is_no_number_or_0_is_an_error(written: bytes) -> None:
    data = radiographs.to_bytes(dicom(ramp(), RescaleSlope="1.2345"))
    assert data.count(b"1.2345") == 1
    with pytest.raises(Unreadable) as caught:
        picture_of(data.replace(b"1.2345", written))
    assert caught.value.reason == "BAD_RESCALE"


# Rule 4: Window Center and Width


def test_rule_04_linear_takes_half_off_the_center_and_one_off_the_width() -> None:
    # PS3.3 C.11.2.1.2.1: ((x − (100 − 0.5)) / (51 − 1) + 0.5) × 255.
    found = shades([74, 75, 100, 124, 125], WindowCenter=100, WindowWidth=51)
    assert found == [0, 3, 130, 252, 255]


def test_rule_04_the_first_window_counts_and_is_not_combined() -> None:
    both = {"WindowCenter": [1000, 3000], "WindowWidth": [500, 100]}
    both["WindowCenterWidthExplanation"] = ["LUNG", "BONE"]
    one = {"WindowCenter": 1000, "WindowWidth": 500}
    np.testing.assert_array_equal(
        picture_of(dicom(ramp(), **both)).pixels,
        picture_of(dicom(ramp(), **one)).pixels,
    )


def test_rule_04_a_width_of_1_is_a_step() -> None:
    assert shades([99, 100, 101], WindowCenter=100, WindowWidth=1) == [0, 255, 255]


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_rule_04_others_than_linear_may_be_narrower_than_1(function: str) -> None:
    window = {"WindowCenter": 100, "WindowWidth": 0.5, "VOILUTFunction": function}
    greys, found = rendered([99, 100, 101], **window)
    assert greys == [0, 128, 255]
    assert (found.voi, found.flags) == ("window", ())


@pytest.mark.parametrize(
    "window",
    [("", ""), (1000, ""), (1000, None), (1000, 0.5), (1000, -9), ([1, 2], [3, 4, 5])],
    ids=str,
)
def test_rule_04_without_a_valid_window_percentiles_decide(window: tuple) -> None:
    stored = ramp() // 3 + 500
    found = picture_of(dicom(stored, WindowCenter=window[0], WindowWidth=window[1]))
    low, high = np.percentile(stored, [0.5, 99.5])
    expected = np.rint(np.clip((stored - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.voi == "percentile"
    assert found.flags == (Flag.BAD_WINDOW, Flag.VOI_PERCENTILE)


# Rule 5: VOI LUT Function


def test_rule_05_sigmoid_is_the_formula_of_the_standard() -> None:
    stored = ramp()
    window = {"WindowCenter": 1500, "WindowWidth": 800, "VOILUTFunction": "SIGMOID"}
    # PS3.3 C.11.2.1.3.1.
    expected = 255 / (1 + np.exp(-4 * (stored - 1500.0) / 800))
    found = picture_of(dicom(stored, **window)).pixels
    np.testing.assert_allclose(found, expected, atol=0.5001)


def test_rule_05_linear_exact_is_the_formula_of_the_standard() -> None:
    window = {"WindowCenter": 100, "WindowWidth": 50, **EXACT}
    # PS3.3 C.11.2.1.3.2: (x − 100) / 50 + 0.5.
    assert shades([75, 81, 111, 119, 125], **window) == [0, 31, 184, 224, 255]


def test_rule_05_padding_and_case_of_the_name_do_not_matter() -> None:
    window = {"WindowCenter": 100, "WindowWidth": 50}
    greys, found = rendered([75, 81, 111], VOILUTFunction=" linear_exact ", **window)
    assert greys == [0, 31, 184]
    assert found.flags == ()


def test_rule_05_an_unknown_function_is_linear_and_flagged() -> None:
    window = {"WindowCenter": 100, "WindowWidth": 51}
    greys, found = rendered([75, 100, 124], VOILUTFunction="CUBIC", **window)
    assert greys == [3, 130, 252]
    assert found.flags == (Flag.VOI_FUNCTION_UNKNOWN,)


# Rule 6: VOI LUT Sequence


def item(descriptor: list[int], data: bytes) -> Dataset:
    """An item whose LUT Data are bytes (VR OW)."""
    table = Dataset()
    table.add_new("LUTDescriptor", "US", descriptor)
    table.add_new("LUTData", "OW", data)
    return table


def test_rule_06_the_sequence_comes_before_the_window_and_clamps() -> None:
    table = radiographs.lut(100, [0, 65535, 13107, 39321])
    greys, found = rendered(
        [0, 99, 100, 101, 102, 103, 104, 4000], VOILUTSequence=[table]
    )
    assert greys == [0, 0, 0, 255, 51, 153, 153, 153]
    assert (found.voi, found.flags) == ("lut", ())


def test_rule_06_0_entries_are_65536() -> None:
    squares = (np.arange(65536) ** 2 // 65535).astype("<u2")
    stored = [0, 10_000, 30_000, 65_535]
    found = shades(
        stored, bits_stored=16, VOILUTSequence=[item([0, 0, 16], squares.tobytes())]
    )
    assert found == [round(v**2 / 65535**2 * 255) for v in stored]


# −100 in 16 bits, as VR SS and as VR US say it.
@pytest.mark.parametrize(("vr", "first"), [("SS", -100), ("US", 65436)])
def test_rule_06_the_first_value_is_signed_as_the_pixels_are(
    vr: str, first: int
) -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", vr, [4, first, 16])
    table.add_new("LUTData", "US", [0, 13107, 26214, 65535])
    found = shades([-101, -100, -99, -98, 5], np.int16, VOILUTSequence=[table])
    assert found == [0, 0, 51, 102, 255]


def test_rule_06_8_bit_entries_may_be_packed_two_in_a_word() -> None:
    packed = item([4, 0, 8], bytes([0, 255, 51, 102]))
    assert shades([0, 1, 2, 3], VOILUTSequence=[packed]) == [0, 255, 51, 102]


@pytest.mark.parametrize(
    "table",
    [
        item([4, 0, 16], b""),
        item([], bytes(8)),
        item([4, 0, 16], b"\0\0\xff\xff"),
        Dataset(),
    ],
    ids=["no data", "no descriptor", "too short", "empty"],
)
def test_rule_06_a_table_that_cannot_be_used_leaves_the_window(table: Dataset) -> None:
    found = picture_of(dicom(ramp(), VOILUTSequence=[table]))
    np.testing.assert_array_equal(found.pixels, picture_of(dicom(ramp())).pixels)
    assert (found.voi, found.flags) == ("window", (Flag.BAD_VOI_LUT,))


# Rule 7: output range


def test_rule_07_the_range_does_not_depend_on_bits_stored_or_slope() -> None:
    window = {"WindowCenter": 1500, "WindowWidth": 2000}
    plain = picture_of(dicom(ramp(), **window)).pixels
    for changes in (
        {"bits_stored": 16},
        {"PixelRepresentation": 1, "bits_stored": 16},
        {"RescaleSlope": 1, "RescaleIntercept": 0},
    ):
        found = picture_of(dicom(ramp(), **window, **changes)).pixels
        np.testing.assert_array_equal(found, plain, err_msg=str(changes))
    shifted = {"WindowCenter": 500, "RescaleSlope": 1, "RescaleIntercept": -1000}
    found = picture_of(dicom(ramp(), **{**window, **shifted})).pixels
    np.testing.assert_array_equal(found, plain)


def test_rule_07_a_table_of_fewer_bits_fills_the_range() -> None:
    table = radiographs.lut(0, [0, 341, 682, 1023], bits=10)
    assert shades([0, 1, 2, 3], VOILUTSequence=[table]) == [0, 85, 170, 255]
