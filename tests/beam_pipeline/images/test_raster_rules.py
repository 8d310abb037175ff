"""The traps of PNG and JPEG exports, each by its name, against values done by hand."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from beam_pipeline import images
from beam_pipeline.errors import Flag
from beam_pipeline.images import Picture
from beam_pipeline.images.rules import compiled
from beam_pipeline.manifest import Preparation, Rendering
from beam_pipeline.metadata import PathPattern
from beam_pipeline.read import Reading
from beam_pipeline.records import Outcome, Ready, Source
from tests import radiographs
from tests.radiographs import encoded, reason_of

CHEST = radiographs.chest(0.5)


def picture(
    image: NDArray | Image.Image, kind: str = "PNG", **options: object
) -> Picture:
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return radiographs.picture_of(encoded(made, kind, **options))


# Depth


def test_raster_16_bits_are_scaled_and_never_clipped() -> None:
    """`convert("L")` would make everything above 255 white."""
    stored = np.array([[0, 255, 256, 30_000, 65_535]], np.uint16)
    found = picture(stored)
    assert found.pixels[0].tolist() == [0, 1, 1, 117, 255]
    assert found.flags == ()


def test_raster_12_bits_in_16_are_scaled_by_their_maximum_and_flagged() -> None:
    found = picture(np.array([[0, 1000, 2000, 4000]], np.uint16))
    assert found.pixels[0].tolist() == [0, 64, 128, 255]
    assert found.flags == (Flag.PNG_LOW_RANGE,)


@pytest.mark.parametrize(
    ("highest", "brightest", "flagged"),
    [(4095, 255, True), (4096, 16, True), (32767, 127, True), (32768, 128, False)],
)
def test_raster_a_low_range_is_scaled_to_12_bits_and_flagged_to_15(
    highest: int, brightest: int, flagged: bool
) -> None:
    found = picture(np.array([[0, highest]], np.uint16))
    assert found.pixels.max() == brightest
    assert (Flag.PNG_LOW_RANGE in found.flags) == flagged


def test_raster_1_bit_is_rejected() -> None:
    assert reason_of(encoded(Image.fromarray(CHEST).convert("1"))) == "BILEVEL_IMAGE"


def test_raster_other_formats_are_not_recognised() -> None:
    for kind in ("TIFF", "BMP", "GIF"):
        assert reason_of(encoded(Image.fromarray(CHEST), kind)) == "UNRECOGNISED"


# Channels


def test_raster_a_palette_is_resolved() -> None:
    shuffled = Image.fromarray(255 - CHEST).convert("P")
    shuffled.putpalette([value for grey in range(255, -1, -1) for value in (grey,) * 3])
    np.testing.assert_array_equal(picture(shuffled).pixels, CHEST)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_raster_alpha_is_laid_on_black(mode: str) -> None:
    alpha = np.full(CHEST.shape, 255, np.uint8)
    alpha[:5] = 0
    image = Image.fromarray(CHEST).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    found = picture(image).pixels
    assert not found[:5].any()
    np.testing.assert_array_equal(found[5:], CHEST[5:])


def test_raster_a_transparent_palette_is_laid_on_black_without_a_warning() -> None:
    image = Image.fromarray(CHEST).convert("P")
    image.putpalette([value for grey in range(256) for value in (grey,) * 3])
    transparent = CHEST[0, 0]
    opacity = bytes(0 if entry == transparent else 255 for entry in range(256))
    found = picture(image, transparency=opacity).pixels
    np.testing.assert_array_equal(found, np.where(transparent == CHEST, 0, CHEST))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_raster_a_jpeg_of_1_3_or_4_channels_is_grey(mode: str) -> None:
    found = picture(Image.fromarray(CHEST).convert(mode), "JPEG", quality=95).pixels
    assert found.shape == CHEST.shape
    assert np.abs(found.astype(int) - CHEST).max() <= 4


def test_raster_colour_is_rejected() -> None:
    screenshot = np.stack([CHEST] * 3, axis=-1)
    screenshot[:10, :10] = (255, 255, 0)
    assert reason_of(encoded(Image.fromarray(screenshot))) == "COLOR_IMAGE"


# What else is in the file


TURNS = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: np.rot90(upright, 2),
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.T,
    6: lambda upright: np.rot90(upright),
    7: lambda upright: np.rot90(upright, 2).T,
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_raster_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = radiographs.gradient(bits=8).astype(np.uint8)
    stored = np.ascontiguousarray(TURNS[orientation](upright))
    found = picture(stored, kind, exif=exif).pixels
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= (0 if kind == "PNG" else 6)


def test_raster_gamma_and_profiles_are_ignored() -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for said in ({"pnginfo": chunks}, {"icc_profile": profile}):
        np.testing.assert_array_equal(picture(CHEST, **said).pixels, CHEST)


# Identity


def read(path: Path, *, pattern: str | None = None) -> Outcome:
    found = radiographs.manifest()
    reading = Reading(preparation=found.preparation, rules=compiled(found))
    described = PathPattern(pattern).of(str(path)) if pattern else None
    last = list(reading(Source(str(path), metadata=described)))[-1]
    assert isinstance(last, Ready)
    return last.outcome


def test_raster_a_file_without_a_header_is_known_by_path_and_digest(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(CHEST)))
    row = read(path)
    assert row.source_uri == str(path)
    assert (row.source_digest or "").startswith("blake3:")
    assert (row.sop_instance_uid, row.view_position, row.modality) == (None,) * 3
    assert {"VIEW_UNKNOWN", "BODY_PART_UNKNOWN", "AGE_UNKNOWN"} <= set(row.flags)


def test_raster_the_path_may_hold_the_uids(tmp_path: Path) -> None:
    path = tmp_path / "1.2.3" / "1.2.3.4" / "1.2.3.4.5.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(encoded(Image.fromarray(CHEST)))
    pattern = (
        r"(?P<study_instance_uid>[0-9.]+)/(?P<series_instance_uid>[0-9.]+)/"
        r"(?P<sop_instance_uid>[0-9.]+)\.png$"
    )
    row = read(path, pattern=pattern)
    uids = (row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid)
    assert uids == ("1.2.3", "1.2.3.4", "1.2.3.4.5")


# Polarity


def chest_on_air(*, inverted: bool) -> NDArray[np.uint8]:
    """A bright body between dark air, or as an exporter of MONOCHROME1 writes it."""
    air_left_and_right = np.full((80, 80), 20, np.uint8)
    air_left_and_right[:, 15:-15] = 180
    return 255 - air_left_and_right if inverted else air_left_and_right


def test_raster_a_suspect_polarity_is_flagged_and_never_flipped() -> None:
    for inverted in (False, True):
        stored = chest_on_air(inverted=inverted)
        found = picture(stored)
        np.testing.assert_array_equal(found.pixels, stored)
        assert found.flags == ((Flag.SUSPECT_INVERTED,) if inverted else ())


def test_raster_a_model_may_say_that_its_files_are_inverted() -> None:
    data = encoded(Image.fromarray(chest_on_air(inverted=True)))
    header = images.read_header(io.BytesIO(data))
    found = images.decode(data, header, Rendering(raster_polarity="inverted"))
    np.testing.assert_array_equal(found.pixels, chest_on_air(inverted=False))
    assert found.flags == ()


def test_raster_the_models_polarity_is_that_of_raster_files_alone() -> None:
    data = radiographs.to_bytes(radiographs.dicom(CHEST))
    header = images.read_header(io.BytesIO(data))
    found = images.decode(data, header, Rendering(raster_polarity="inverted"))
    np.testing.assert_array_equal(found.pixels, radiographs.picture_of(data).pixels)


# Broken and hostile files


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_raster_a_truncated_file_is_an_error(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 90)).astype(np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    for share in (0.5, 0.9):
        assert reason_of(data[: int(len(data) * share)]) == "DECODE_ERROR"


@pytest.mark.parametrize("side", [7_000, 40_000])
def test_raster_a_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    data = bytearray(encoded(Image.new("L", (8, 8))))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    assert reason_of(bytes(data)) == "TOO_LARGE"


# One preparation


def test_raster_a_png_and_a_dicom_of_one_picture_are_one_model_input() -> None:
    preparation = Preparation(height=32, width=32)
    dataset = radiographs.dicom(CHEST, WindowCenter=128, WindowWidth=256)
    inputs = [
        images.prepare(each.pixels, preparation)
        for each in (picture(CHEST), radiographs.picture_of(dataset))
    ]
    np.testing.assert_array_equal(*inputs)


@pytest.mark.parametrize("side", [16, 40])
def test_raster_the_preparation_is_a_box_then_a_triangle(side: int) -> None:
    """Frozen: a change of the resampler would change every score of every model."""
    random = np.random.default_rng(7)
    stored = random.integers(0, 256, (side * 4, side * 4)).astype(np.uint8)
    box = stored.reshape(side * 2, 2, side * 2, 2).mean(axis=(1, 3))
    expected = triangle(triangle(box).T).T
    found = images.prepare(stored, Preparation(height=side, width=side))[..., 0]
    # Pillow rounds to whole greys after the box and after each direction.
    np.testing.assert_allclose(found, expected, atol=1.5)


def triangle(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half as many rows, each a triangle-weighted mean of the four around it."""
    size = len(rows) // 2
    centers = 2 * np.arange(size) + 1
    offsets = np.arange(len(rows)) + 0.5 - centers[:, np.newaxis]
    weights = np.clip(1 - np.abs(offsets) / 2, 0, None)
    return weights @ rows / weights.sum(axis=1, keepdims=True)
