"""The DICOM grayscale pipeline, against pydicom's own implementation of each step."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

from beam_pipeline import images
from beam_pipeline.errors import Flag
from beam_pipeline.images import Picture
from tests import radiographs


def render(stored: NDArray, **attributes: object) -> Picture:
    data = radiographs.to_bytes(radiographs.dicom(stored, **attributes))
    return images.decode(data, images.read_header(io.BytesIO(data)))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("window", [(2048, 4096), (1000, 600), (2048, 1.5), (-50, 900)])
@pytest.mark.parametrize("slope", [(1, 0), (0.5, -100), (-1, 4095)], ids=str)
@pytest.mark.parametrize("signed", [False, True])
def test_windows_agree_with_pydicom(
    function: str, window: tuple, slope: tuple, signed: bool
) -> None:
    stored = radiographs.gradient()
    if signed:
        stored = stored.astype(np.int16) - 2048
    attributes = {
        "VOILUTFunction": function,
        "WindowCenter": window[0],
        "WindowWidth": window[1],
        "RescaleSlope": slope[0],
        "RescaleIntercept": slope[1],
    }
    dataset = radiographs.dicom(stored, **attributes)
    modality = apply_modality_lut(stored, dataset)
    # With a slope, pydicom scales its output by it, and a negative one inverts;
    # without, it gives the range of the stored values.
    del dataset.RescaleSlope, dataset.RescaleIntercept
    with np.errstate(over="ignore"):
        shown = apply_windowing(modality, dataset)
    expected = np.rint((shown - (-2048 if signed else 0)) / 4095 * 255)
    found = render(stored, **attributes)
    if np.ptp(expected) == 0:
        # A window that shows nothing is passed over.
        assert (found.voi, found.flags[0]) == ("percentile", Flag.BAD_WINDOW)
        return
    assert found.voi == "window"
    np.testing.assert_allclose(found.pixels, expected, atol=1)


def test_the_first_of_several_windows_counts() -> None:
    stored = radiographs.gradient()
    several = render(stored, WindowCenter=[1000, 3000], WindowWidth=[500, 100])
    one = render(stored, WindowCenter=1000, WindowWidth=500)
    np.testing.assert_array_equal(several.pixels, one.pixels)


def test_a_window_that_cannot_be_used_leaves_the_next_one() -> None:
    stored = radiographs.gradient()
    several = render(stored, WindowCenter=[1000, 3000], WindowWidth=[0, 900])
    one = render(stored, WindowCenter=3000, WindowWidth=900)
    np.testing.assert_array_equal(several.pixels, one.pixels)
    assert several.flags == ()


def test_a_real_voi_lut_sequence_agrees_with_pydicom() -> None:
    path = get_testdata_file("vlut_04.dcm", download=False)
    dataset = dcmread(path)
    with open(path, "rb") as stream:
        data = stream.read()
    found = images.decode(data, images.read_header(io.BytesIO(data)))
    bits = dataset.VOILUTSequence[0].LUTDescriptor[2]
    modality = apply_modality_lut(dataset.pixel_array, dataset)
    expected = apply_voi(modality, dataset) / (2**bits - 1) * 255
    assert found.voi == "lut"
    np.testing.assert_allclose(found.pixels, expected, atol=1)


def test_a_real_modality_lut_sequence_agrees_with_pydicom() -> None:
    path = get_testdata_file("mlut_18.dcm", download=False)
    dataset = dcmread(path)
    with open(path, "rb") as stream:
        data = stream.read()
    found = images.decode(data, images.read_header(io.BytesIO(data)))
    expected = apply_modality_lut(dataset.pixel_array, dataset)
    step = found.steps[1]
    assert step.name == "Modality LUT Sequence"
    assert (step.low, step.high) == (expected.min(), expected.max())


def test_a_voi_lut_wins_over_a_window_and_clamps_at_its_ends() -> None:
    stored = radiographs.gradient(bits=8).astype(np.uint16)
    entries = [0] * 10 + list(range(0, 65536, 656))[:100] + [65535] * 10
    found = render(
        stored, bits_stored=12, VOILUTSequence=[radiographs.lut(50, entries)]
    )
    index = np.clip(stored.astype(int) - 50, 0, len(entries) - 1)
    expected = np.rint(np.array(entries)[index] / 65535 * 255)
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.voi == "lut"


def test_monochrome1_is_inverted_once_after_the_window() -> None:
    stored = radiographs.gradient()
    window = {"WindowCenter": 1000, "WindowWidth": 500}
    straight = render(stored, **window).pixels
    for shape in (None, "INVERSE", "IDENTITY"):
        inverted = render(
            stored,
            PhotometricInterpretation="MONOCHROME1",
            PresentationLUTShape=shape,
            **window,
        ).pixels
        np.testing.assert_array_equal(inverted, 255 - straight)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_no_part_of_the_percentiles(photometric: str) -> None:
    image = radiographs.gradient(bits=10) + 1000
    padded = image.copy()
    padded[:10] = 4000
    attributes = {
        "WindowCenter": None,
        "WindowWidth": None,
        "PhotometricInterpretation": photometric,
    }
    plain = render(image[10:], **attributes)
    found = render(padded, PixelPaddingValue=4000, **attributes)
    assert (found.pixels[:10] == 0).all()
    np.testing.assert_array_equal(found.pixels[10:], plain.pixels)


def test_a_padding_range_is_padding_as_a_whole() -> None:
    stored = radiographs.gradient()
    found = render(stored, PixelPaddingValue=100, PixelPaddingRangeLimit=0)
    assert (found.pixels[stored <= 100] == 0).all()
    assert (found.pixels[stored > 120] > 0).all()


def test_bits_above_bits_stored_are_no_part_of_the_value() -> None:
    stored = radiographs.gradient()
    overlaid = stored | 0x8000
    np.testing.assert_array_equal(render(overlaid).pixels, render(stored).pixels)


def test_a_high_bit_above_moves_the_value_down() -> None:
    stored = radiographs.gradient()
    shifted = render(stored << 4, HighBit=15)
    np.testing.assert_array_equal(shifted.pixels, render(stored).pixels)


@pytest.mark.parametrize(
    "window",
    [(None, None), (2048, None), (2048, 0), (2048, -5), (2048, 0.5)],
    ids=str,
)
def test_without_a_valid_window_robust_percentiles_decide(window: tuple) -> None:
    stored = radiographs.gradient(200, 200)
    stored[0, :5] = 4095
    stored[1:] //= 4
    found = render(stored, WindowCenter=window[0], WindowWidth=window[1])
    low, high = np.percentile(stored, [0.5, 99.5])
    expected = np.rint(np.clip((stored - low) / (high - low), 0, 1) * 255)
    np.testing.assert_allclose(found.pixels, expected, atol=1)
    assert found.voi == "percentile"
    assert Flag.VOI_PERCENTILE in found.flags
    assert (Flag.BAD_WINDOW in found.flags) == (window != (None, None))


def test_an_unusable_voi_lut_falls_back_to_the_window() -> None:
    stored = radiographs.gradient()
    empty = Dataset()
    empty.LUTDescriptor = [256, 0, 16]
    found = render(stored, VOILUTSequence=[empty])
    assert found.voi == "window"
    assert found.flags == (Flag.BAD_VOI_LUT,)
    np.testing.assert_array_equal(found.pixels, render(stored).pixels)


def test_every_step_says_its_range() -> None:
    found = render(
        radiographs.gradient(),
        RescaleSlope=2,
        RescaleIntercept=-10,
        PhotometricInterpretation="MONOCHROME1",
    )
    ranges = [(step.low, step.high) for step in found.steps]
    assert ranges[0] == (0, 4095)
    assert ranges[1] == (-10, 8180)
    assert ranges[-1] == (found.pixels.min(), found.pixels.max())
    assert "MONOCHROME1" in found.steps[3].name


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian]
)
@pytest.mark.parametrize(
    ("stored", "modality", "first"),
    [
        # Unsigned pixels, and a rescale to values that may be negative.
        (radiographs.gradient(), {"RescaleSlope": 1, "RescaleIntercept": -1024}, -500),
        # Signed pixels, and a Modality LUT whose output never is.
        (
            radiographs.gradient().astype(np.int16) - 2048,
            {
                "ModalityLUTSequence": [
                    radiographs.lut(-2048, list(range(30_000, 50_000, 4)))
                ]
            },
            34_000,
        ),
    ],
    ids=["rescaled", "modality LUT"],
)
def test_the_first_value_of_a_voi_lut_has_the_sign_of_its_input(
    stored: NDArray, modality: dict, first: int, syntax: str
) -> None:
    entries = list(range(0, 65536, 32))
    # As US, which is what most write; in implicit VR a reader has to know.
    voi_lut = radiographs.lut(0, entries)
    voi_lut.add_new("LUTDescriptor", "US", [len(entries), first & 0xFFFF, 16])
    plain = radiographs.dicom(stored, **modality, WindowCenter=None, WindowWidth=None)
    rendered = radiographs.dicom(
        stored, transfer_syntax=syntax, **modality, VOILUTSequence=[voi_lut]
    )
    values = apply_modality_lut(stored, plain)
    index = np.clip(values.astype(int) - first, 0, len(entries) - 1)
    expected = np.rint(np.array(entries)[index] / 65535 * 255)
    found = radiographs.picture_of(rendered)
    assert found.voi == "lut"
    np.testing.assert_array_equal(found.pixels, expected)
