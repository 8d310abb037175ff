from __future__ import annotations

import io

import numpy as np
from PIL import Image

from beam_pipeline import images
from tests import radiographs
from tests.radiographs import encoded, picture_of, reason_of

CHEST = radiographs.chest(0.5)


def test_an_8_bit_png_is_taken_as_it_is() -> None:
    np.testing.assert_array_equal(
        picture_of(encoded(Image.fromarray(CHEST))).pixels, CHEST
    )


def test_grey_in_three_channels_is_grey() -> None:
    colour = Image.fromarray(CHEST).convert("RGB")
    np.testing.assert_array_equal(picture_of(encoded(colour)).pixels, CHEST)


def test_a_black_picture_is_rejected() -> None:
    assert reason_of(encoded(Image.new("L", (30, 30)))) == "CONSTANT_IMAGE"


def test_a_broken_header_is_an_error() -> None:
    assert reason_of(b"\x89PNG\r\n\x1a\n" + b"\0" * 40) == "CORRUPT_HEADER"


def test_the_content_decides_not_the_name() -> None:
    header = images.read_header(io.BytesIO(encoded(Image.fromarray(CHEST), "JPEG")))
    assert header.format == "JPEG"
    assert (header.rows, header.columns) == CHEST.shape
