from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from beam_pipeline import images
from beam_pipeline.errors import Flag, NotScored
from beam_pipeline.images import Picture
from tests import radiographs


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def read(data: bytes) -> Picture:
    return images.decode(data, images.read_header(io.BytesIO(data)))


def reason(data: bytes) -> str:
    with pytest.raises(NotScored) as caught:
        read(data)
    return str(caught.value.reason)


CHEST = radiographs.chest(0.5)


def test_an_8_bit_png_is_taken_as_it_is() -> None:
    np.testing.assert_array_equal(read(encoded(Image.fromarray(CHEST))).pixels, CHEST)


def test_16_bits_are_scaled_and_never_clipped() -> None:
    wide = CHEST.astype(np.uint16) * 257
    found = read(encoded(Image.fromarray(wide)))
    np.testing.assert_array_equal(found.pixels, CHEST)
    assert found.flags == ()


def test_12_bits_in_16_are_stretched_and_flagged() -> None:
    low = radiographs.gradient(bits=12)
    found = read(encoded(Image.fromarray(low)))
    assert (found.pixels.min(), found.pixels.max()) == (0, 255)
    assert found.flags == (Flag.PNG_LOW_RANGE,)


def test_a_palette_is_resolved() -> None:
    shuffled = Image.fromarray(255 - CHEST).convert("P")
    shuffled.putpalette([v for grey in range(255, -1, -1) for v in (grey,) * 3])
    np.testing.assert_array_equal(read(encoded(shuffled)).pixels, CHEST)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_laid_on_black(mode: str) -> None:
    alpha = np.full(CHEST.shape, 255, np.uint8)
    alpha[:5] = 0
    image = Image.fromarray(CHEST).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    expected = CHEST.copy()
    expected[:5] = 0
    np.testing.assert_array_equal(read(encoded(image)).pixels, expected)


def test_grey_in_three_channels_is_grey() -> None:
    colour = Image.fromarray(CHEST).convert("RGB")
    np.testing.assert_array_equal(read(encoded(colour)).pixels, CHEST)


def test_a_jpeg_is_read_in_grey_rgb_and_cmyk() -> None:
    image = Image.fromarray(CHEST)
    for mode in ("L", "RGB", "CMYK"):
        found = read(encoded(image.convert(mode), "JPEG", quality=95)).pixels
        assert np.abs(found.astype(int) - CHEST.astype(int)).max() <= 4, mode


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, 1)),
        (8, lambda a: np.rot90(a, -1)),
    ],
)
def test_exif_orientation_is_applied(orientation: int, turn: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = radiographs.gradient(bits=8).astype(np.uint8)
    stored = np.ascontiguousarray(turn(upright))
    found = read(encoded(Image.fromarray(stored), "PNG", exif=exif)).pixels
    np.testing.assert_array_equal(found, upright)


def test_a_colour_photograph_is_rejected() -> None:
    random = np.random.default_rng(0)
    photograph = random.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    assert reason(encoded(Image.fromarray(photograph))) == "COLOR_IMAGE"


def test_one_bit_a_pixel_is_rejected() -> None:
    assert reason(encoded(Image.fromarray(CHEST).convert("1"))) == "BILEVEL_IMAGE"


def test_a_black_picture_is_rejected() -> None:
    assert reason(encoded(Image.new("L", (30, 30)))) == "CONSTANT_IMAGE"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_file_is_an_error(kind: str) -> None:
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (90, 90)).astype(np.uint8))
    data = encoded(noise, kind)
    assert reason(data[: len(data) // 2]) == "DECODE_ERROR"


def test_a_broken_header_is_an_error() -> None:
    assert reason(b"\x89PNG\r\n\x1a\n" + b"\0" * 40) == "CORRUPT_HEADER"


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    data = bytearray(encoded(Image.new("L", (8, 8))))
    data[16:24] = (40_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    assert reason(bytes(data)) == "TOO_LARGE"


def test_the_content_decides_not_the_name() -> None:
    header = images.read_header(io.BytesIO(encoded(Image.fromarray(CHEST), "JPEG")))
    assert header.format == "JPEG"
    assert (header.rows, header.columns) == CHEST.shape


def test_a_png_of_a_dicoms_picture_gives_the_same_model_input() -> None:
    dataset = radiographs.dicom(
        radiographs.gradient(300, 250),
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=1500,
        WindowWidth=3000,
    )
    shown = read(radiographs.to_bytes(dataset)).pixels
    png = read(encoded(Image.fromarray(shown))).pixels
    one, other = (
        images.prepare(pixels, radiographs.PREPARATION).astype(int)
        for pixels in (shown, png)
    )
    assert np.abs(one - other).max() <= 1
