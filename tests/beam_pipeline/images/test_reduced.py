"""What is decoded at a fraction of its size becomes the model input of the whole."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from beam_pipeline import images
from beam_pipeline.errors import Unreadable
from beam_pipeline.images import ModelInput
from beam_pipeline.images.prepare import OVERSAMPLING, halvings
from beam_pipeline.manifest import Preparation
from tests import radiographs

REDUCING = Preparation(height=32, width=32, max_reduction=8)
WHOLE = dataclasses.replace(REDUCING, max_reduction=0)
WAVELETS = (
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
)
SHAPE = (403, 541)


def film(bits: int = 12, shape: tuple[int, int] = SHAPE) -> NDArray[Any]:
    """Shades, edges and grain, within the middle nine tenths of `bits` bits."""
    rng = np.random.default_rng(7)
    rows, columns = np.indices(shape) / max(shape)
    shade = np.sin(5 * rows + 2) * np.cos(4 * columns) + np.sin(20 * rows * columns)
    edges = (np.hypot(rows - 0.4, columns - 0.5) < 0.2) * 0.4
    picture = shade + edges + rng.normal(0, 0.03, shape)
    picture = (picture - picture.min()) / np.ptp(picture)
    stored = np.rint((0.05 + 0.9 * picture) * (2**bits - 1))
    return stored.astype(np.uint8 if bits == 8 else np.uint16)


def seen(data: bytes, preparation: Preparation = REDUCING) -> ModelInput:
    return images.model_input(data, radiographs.header_of(data), preparation)


def file(pixels: NDArray[Any], syntax: str, **attributes: Any) -> bytes:
    dataset = radiographs.dicom(pixels, transfer_syntax=syntax, **attributes)
    return radiographs.to_bytes(dataset)


def assert_alike(data: bytes, preparation: Preparation = REDUCING) -> ModelInput:
    """That the model sees the same of `data`, but for what rounding may do."""
    whole = dataclasses.replace(preparation, max_reduction=0)
    found, expected = seen(data, preparation), seen(data, whole)
    assert found.picture.reduction is not None
    assert expected.picture.reduction is None
    difference = np.abs(found.image.astype(int) - expected.image)
    assert difference.mean() < 0.5
    assert difference.max() <= 4
    return found


def assert_whole(data: bytes) -> None:
    """That `data` are decoded at their full size, and nothing else is seen of them."""
    found = seen(data)
    assert found.picture.reduction is None
    np.testing.assert_array_equal(found.image, seen(data, WHOLE).image)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("syntax", WAVELETS)
def test_reduced_a_wavelet_is_decoded_no_further_than_the_model_sees(
    syntax: str, photometric: str
) -> None:
    data = file(film(), syntax, PhotometricInterpretation=photometric)
    found = assert_alike(data)
    # 403 rows are 12.6 times as many as the model has, and 8 × 1.4 is less.
    assert found.picture.pixels.shape == (51, 68)
    assert found.picture.voi == "window"


@pytest.mark.parametrize("shape", [(400, 544), (401, 545), (407, 551)], ids=str)
@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.HTJ2KLossless])
def test_reduced_sizes_that_cannot_be_halved_evenly_are_rounded_up(
    syntax: str, shape: tuple[int, int]
) -> None:
    found = assert_alike(file(film(shape=shape), syntax))
    assert found.picture.pixels.shape == tuple(-(-size // 8) for size in shape)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize(("height", "width"), [(20, 60), (64, 32), (90, 90)])
def test_reduced_any_model_sees_what_it_would(
    height: int, width: int, resize: Any
) -> None:
    preparation = Preparation(
        height=height, width=width, resize=resize, max_reduction=8
    )
    data = file(film(), uid.JPEG2000Lossless, PixelSpacing=[0.15, 0.1])
    assert_alike(data, preparation)


def test_reduced_jpegs_are_scaled_by_their_blocks() -> None:
    found = assert_alike(file(film(8), uid.JPEGBaseline8Bit))
    assert found.picture.pixels.shape == (101, 136)
    stream = io.BytesIO()
    Image.fromarray(film(8)).save(stream, "JPEG", quality=95)
    found = assert_alike(stream.getvalue())
    assert found.picture.pixels.shape == (101, 136)


def test_reduced_the_manifest_says_how_far() -> None:
    data = file(film(), uid.JPEG2000Lossless)
    once = dataclasses.replace(REDUCING, max_reduction=1)
    assert assert_alike(data, once).picture.pixels.shape == (202, 271)


@pytest.mark.parametrize("times", [1.0, 1.9, 2.9, 5.0, 11.3])
def test_reduced_what_is_left_is_more_than_the_model_sees(times: float) -> None:
    shape = (round(32 * times), 3000)
    count = halvings(shape, REDUCING)
    assert count == 0 or shape[0] / 2**count >= OVERSAMPLING * 32
    assert shape[0] / 2 ** (count + 1) < OVERSAMPLING * 32


def test_reduced_a_codestream_with_few_levels_is_halved_as_often_as_it_can_be() -> None:
    pixels = film()
    frame = imagecodecs.jpeg2k_encode(
        pixels, codecformat="j2k", reversible=True, bitspersample=12, resolutions=2
    )
    assert assert_alike(_wrapped(pixels, frame)).picture.pixels.shape == (202, 271)


def test_reduced_a_codestream_without_levels_is_decoded_whole() -> None:
    pixels = film()
    frame = imagecodecs.jpeg2k_encode(
        pixels, codecformat="j2k", reversible=True, bitspersample=12, resolutions=1
    )
    assert_whole(_wrapped(pixels, frame))


def test_reduced_a_codestream_with_room_for_an_overlay_is_decoded_whole() -> None:
    pixels = film()
    frame = imagecodecs.jpeg2k_encode(
        pixels, codecformat="j2k", reversible=True, bitspersample=16
    )
    assert_whole(_wrapped(pixels, frame))


def test_reduced_boxes_around_a_codestream_may_change_what_it_means() -> None:
    pixels = film()
    frame = imagecodecs.jpeg2k_encode(
        pixels, codecformat="jp2", reversible=True, bitspersample=12
    )
    assert_whole(_wrapped(pixels, frame))


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.HTJ2KLossless])
@pytest.mark.parametrize("bits", [8, 16])
def test_reduced_other_depths_are_reduced_too(syntax: str, bits: int) -> None:
    data = file(film(bits), syntax, bits_stored=bits)
    if syntax == uid.JPEG2000Lossless:
        assert_alike(data)
    else:
        # Where all bits are in use, what the filter takes below 0 cannot be told.
        assert_whole(data)


def test_reduced_signed_values_are_reduced_too() -> None:
    pixels = film().astype(np.int16) - 2048
    frame = imagecodecs.jpeg2k_encode(
        pixels, codecformat="j2k", reversible=True, bitspersample=12
    )
    assert_alike(_wrapped(pixels, frame, WindowCenter=0.0, WindowWidth=4096.0))


def test_reduced_black_and_white_edges_do_not_wrap() -> None:
    pixels = (np.indices(SHAPE).sum(axis=0) // 37 % 2 * 4095).astype(np.uint16)
    for syntax in (uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.JPEG2000):
        found = seen(file(pixels, syntax))
        assert found.picture.reduction is not None, syntax
        expected = seen(file(pixels, syntax), WHOLE).image
        assert np.abs(found.image.astype(int) - expected).max() < 40, syntax


def test_reduced_a_window_that_cuts_through_the_grain_is_applied_first() -> None:
    wide = file(film(), uid.HTJ2KLossless, WindowCenter=2048.0, WindowWidth=3500.0)
    assert_alike(wide)
    narrow = file(film(), uid.HTJ2KLossless, WindowCenter=2048.0, WindowWidth=100.0)
    assert_whole(narrow)


def test_reduced_a_table_that_bends_much_is_applied_first() -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    steps = np.arange(4096) // 64 % 2 * 65535
    item.add_new("LUTData", "OW", steps.astype("<u2").tobytes())
    assert_whole(file(film(), uid.JPEG2000Lossless, VOILUTSequence=[item]))


def test_reduced_padding_and_overlays_are_not_mixed_with_their_neighbours() -> None:
    pixels = film()
    pixels[:, :100] = 0
    assert_whole(file(pixels, uid.JPEG2000Lossless, PixelPaddingValue=0))
    overlaid = film() | np.where(np.indices(SHAPE)[0] % 50 == 0, 0x8000, 0)
    data = file(overlaid.astype(np.uint16), uid.JPEG2000Lossless, bits_stored=12)
    assert_whole(data)


def test_reduced_percentiles_are_those_of_the_whole() -> None:
    noisy = np.random.default_rng(0).normal(2000, 100, SHAPE).astype(np.uint16)
    assert_whole(file(noisy, uid.JPEG2000Lossless, WindowCenter=None))


def test_reduced_values_that_are_negative_elsewhere_are_not_mixed() -> None:
    around_zero = (film().astype(np.int32) - 2048) & 0xFFF
    data = file(
        around_zero.astype(np.uint16), uid.JPEG2000Lossless, PixelRepresentation=1
    )
    assert_whole(data)


@pytest.mark.parametrize("bits", [12, 15])
def test_reduced_white_edges_of_htj2k_stay_white(bits: int) -> None:
    steps = np.indices(SHAPE)[1] // 40 % 2 * (2**bits - 1)
    data = file(steps.astype(np.uint16), uid.HTJ2KLossless, bits_stored=bits)
    difference = seen(data).image.astype(int) - seen(data, WHOLE).image
    assert np.abs(difference).max() < 40


def test_reduced_a_jpeg_without_blocks_is_decoded_whole() -> None:
    frame = imagecodecs.jpeg8_encode(film(8), lossless=True)
    dataset = radiographs.dicom(film(8), transfer_syntax=uid.JPEGBaseline8Bit)
    dataset.PixelData = encapsulate([bytes(frame)])
    assert_whole(radiographs.to_bytes(dataset))
    assert_whole(bytes(frame))


def test_reduced_what_is_constant_at_a_fraction_is_looked_at_whole() -> None:
    checks = (119 + 18 * (np.indices((900, 900)).sum(axis=0) % 2)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(checks).save(stream, "JPEG", quality=100)
    assert_whole(stream.getvalue())


def test_reduced_a_single_dot_is_seen_before_an_image_is_called_constant() -> None:
    pixels = np.full(SHAPE, 1000, np.uint16)
    pixels[201, 301] = 1001
    assert_whole(file(pixels, uid.JPEG2000Lossless, WindowCenter=None))


@pytest.mark.parametrize("syntax", [*WAVELETS, uid.JPEGBaseline8Bit])
def test_reduced_what_is_cut_off_is_refused_as_it_was(syntax: str) -> None:
    pixels = film(8 if syntax == uid.JPEGBaseline8Bit else 12)
    dataset = radiographs.dicom(pixels, transfer_syntax=syntax)
    frame = dataset.PixelData[16:]
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    data = radiographs.to_bytes(dataset)
    with pytest.raises(Unreadable) as expected:
        seen(data, WHOLE)
    with pytest.raises(Unreadable) as found:
        seen(data)
    assert str(found.value) == str(expected.value)


def test_reduced_colour_and_turned_pictures_are_decoded_whole() -> None:
    colour = np.repeat(film(8)[..., np.newaxis], 3, axis=2)
    turned = Image.Exif()
    turned[0x0112] = 6
    for picture, options in (
        (Image.fromarray(colour), {}),
        (Image.fromarray(film(8)), {"exif": turned}),
    ):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", **options)
        assert_whole(stream.getvalue())


@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.JPEGLSLossless, uid.JPEGLosslessSV1],
)
def test_reduced_what_has_no_levels_is_decoded_whole(syntax: str) -> None:
    assert_whole(file(film(), syntax))


def _wrapped(pixels: NDArray[Any], frame: bytes, **attributes: Any) -> bytes:
    dataset = radiographs.dicom(
        pixels, transfer_syntax=uid.JPEG2000Lossless, bits_stored=12, **attributes
    )
    dataset.PixelData = encapsulate([bytes(frame)])
    return radiographs.to_bytes(dataset)
