"""Rules 12 to 14: colour, pixel geometry, size and shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from beam_pipeline import images
from beam_pipeline.errors import Flag
from beam_pipeline.manifest import Preparation
from beam_pipeline.records import Outcome
from tests import radiographs
from tests.radiographs import (
    dicom,
    flags_of,
    header_of,
    picture_of,
    reason_of,
    refusal_of,
)


def ramp(bits: int = 12) -> np.ndarray:
    return radiographs.gradient(bits=bits)


# Rule 12: colour

GREY = radiographs.chest(0.5)


def colour(samples: np.ndarray, **attributes: object) -> FileDataset:
    said = {"PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    return dicom(samples, **{**said, **attributes})


def test_rule_12_equal_channels_are_their_luminance() -> None:
    found = picture_of(colour(np.stack([GREY] * 3, axis=-1)))
    np.testing.assert_array_equal(found.pixels, GREY)


def test_rule_12_nearly_equal_channels_are_their_luminance() -> None:
    samples = np.stack([GREY + 5, GREY, GREY - 5], axis=-1)
    # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B.
    expected = GREY + 0.299 * 5 - 0.114 * 5
    np.testing.assert_allclose(picture_of(colour(samples)).pixels, expected, atol=0.51)


def test_rule_12_planes_are_put_together() -> None:
    dataset = colour(np.stack([GREY] * 3, axis=-1), PlanarConfiguration=1)
    # Taken for interleaved, three neighbours of the ramp would be one grey pixel.
    dataset.PixelData = np.stack([GREY + 5, GREY, GREY - 5]).tobytes()
    found = picture_of(dataset).pixels
    np.testing.assert_allclose(found, GREY + 5 * 0.185, atol=0.51)


def test_rule_12_ybr_is_converted() -> None:
    neutral = np.full_like(GREY, 128)
    samples = np.stack([GREY, neutral, neutral], axis=-1)
    found = picture_of(colour(samples, PhotometricInterpretation="YBR_FULL"))
    np.testing.assert_allclose(found.pixels, GREY, atol=1)


def palette(tables: list[np.ndarray]) -> FileDataset:
    dataset = dicom(GREY, PhotometricInterpretation="PALETTE COLOR")
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        lut = f"{name}PaletteColorLookupTable"
        setattr(dataset, f"{lut}Descriptor", [256, 0, 16])
        setattr(dataset, f"{lut}Data", table.astype("<u2").tobytes())
    return dataset


def test_rule_12_a_grey_palette_is_looked_up() -> None:
    falling = np.arange(255, -1, -1) * 257
    found = picture_of(palette([falling] * 3))
    np.testing.assert_array_equal(found.pixels, 255 - GREY)


def test_rule_12_a_coloured_palette_is_rejected() -> None:
    rising = np.arange(256) * 257
    assert reason_of(palette([rising, rising[::-1], rising])) == "COLOR_IMAGE"


def test_rule_12_colour_is_rejected(tmp_path: Path) -> None:
    annotated = np.stack([GREY] * 3, axis=-1)
    annotated[:10, :10] = (255, 255, 0)
    found = radiographs.reading_of(colour(annotated), tmp_path / "a.dcm")
    assert isinstance(found, Outcome)
    assert (found.status, found.reason) == ("REJECTED", "COLOR_IMAGE")


# Rule 13: pixel geometry


@pytest.mark.parametrize(
    "keyword",
    [
        "PixelAspectRatio",
        "PixelSpacing",
        "ImagerPixelSpacing",
        "NominalScannedPixelSpacing",
    ],
)
def test_rule_13_the_aspect_is_vertical_over_horizontal(keyword: str) -> None:
    dataset = dicom(ramp(), **{keyword: [3, 2]})
    assert header_of(dataset).pixel_aspect == 1.5
    assert flags_of(dataset) == ()


def test_rule_13_absent_spacing_is_square_without_a_flag() -> None:
    assert header_of(dicom(ramp())).pixel_aspect == 1
    assert flags_of(dicom(ramp())) == ()


@pytest.mark.parametrize("spacing", [[0, 0], [0.1, 0], [-0.2, 0.2], [0.2]], ids=str)
def test_rule_13_a_spacing_that_is_none_is_flagged(spacing: list) -> None:
    dataset = dicom(ramp(), PixelSpacing=spacing)
    assert header_of(dataset).pixel_aspect == 1
    assert flags_of(dataset) == (Flag.BAD_PIXEL_ASPECT,)


def test_rule_13_the_imagers_spacing_stands_in() -> None:
    said = {"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.4, 0.2]}
    assert header_of(dicom(ramp(), **said)).pixel_aspect == 2


def test_rule_13_pixels_are_made_square_before_resizing() -> None:
    """40 rows of pixels twice as high as wide are as tall as 80 columns are wide."""
    padded = Preparation(height=32, width=32, resize="pad")
    white = np.full((40, 80), 255, np.uint8)
    assert images.prepare(white, padded, pixel_aspect=2.0).min() == 255
    square = images.prepare(white, padded)[..., 0]
    assert (square[8:24] == 255).all()
    assert not square[:8].any()
    assert not square[24:].any()


# Rule 14: aspect and size


@pytest.mark.parametrize("shape", [(63, 70), (70, 63), (65, 196), (196, 65)])
def test_rule_14_small_or_long_images_are_rejected(shape: tuple[int, int]) -> None:
    assert refusal_of(dicom(radiographs.gradient(*shape))) == "BAD_SIZE"


@pytest.mark.parametrize("shape", [(64, 64), (65, 195), (195, 65)])
def test_rule_14_others_are_not(shape: tuple[int, int]) -> None:
    assert flags_of(dicom(radiographs.gradient(*shape))) == ()


def test_rule_14_length_counts_and_not_the_number_of_pixels() -> None:
    tall = dicom(radiographs.gradient(140, 70), PixelSpacing=[0.2, 0.1])
    assert refusal_of(tall) == "BAD_SIZE"
    flat = dicom(radiographs.gradient(280, 70), PixelSpacing=[0.1, 0.2])
    assert flags_of(flat) == ()


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_rule_14_the_models_own_policy_resizes_with_antialiasing(resize: str) -> None:
    board = np.indices((512, 512)).sum(axis=0) % 2 * 255
    preparation = Preparation(height=32, width=32, resize=resize)
    found = images.prepare(board.astype(np.uint8), preparation)
    assert np.abs(found.astype(int) - 127).max() <= 1
    assert resize in preparation.name


def test_rule_14_stretch_fills_and_pad_keeps_the_shape() -> None:
    wide = np.full((100, 200), 255, np.uint8)
    stretch, pad = (
        images.prepare(wide, Preparation(height=40, width=40, resize=policy))
        for policy in ("stretch", "pad")
    )
    assert stretch.min() == 255
    assert (pad[10:30] == 255).all()
    assert pad.sum() == 20 * 40 * 255
