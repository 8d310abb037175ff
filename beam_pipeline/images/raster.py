"""PNG and JPEG: sniff, header, pixels. They have no VOI, polarity or identity."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from beam_pipeline.errors import Failure, Flag, Rejected, Rejection, Unreadable
from beam_pipeline.images import codestream
from beam_pipeline.images.header import Asked, Header
from beam_pipeline.images.picture import (
    JPEG_HALVINGS,
    Picture,
    Reduction,
    looked_up,
    luminance,
    measured,
)
from beam_pipeline.limits import Limits
from beam_pipeline.manifest import Rendering

# `Limits` decides how large a picture may be, from its header.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
# MPO is a JPEG with more pictures behind the first: phones and some scanners write it.
_FORMATS = {"PNG": "PNG", "JPEG": "JPEG", "MPO": "JPEG"}
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# A 16-bit file with 12 bits in it: exporters that do not scale to the full range.
_LOW_RANGE = 4096
# One that uses 13 to 15 bits may also be a dark image of 16: it is left as it is.
_HALF_RANGE = 32768
# The border is a twentieth of the width, on the left and on the right.
_BORDER = 20
_BRIGHTER = 16


def sniff(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a PNG or a JPEG."""
    return head.startswith(_SIGNATURES)


def read_header(stream: BinaryIO, asked: Asked, limits: Limits) -> Header:
    """Format and size, from the file's first chunks.

    Raises:
        Unreadable: CORRUPT_HEADER or TOO_LARGE.
    """
    image = _open(stream)
    return Header(
        format=_FORMATS[image.format or ""],
        rows=image.height,
        columns=image.width,
        bits_stored=16 if image.mode in _SIXTEEN_BIT_MODES else 8,
    )


def decode(
    data: bytes, header: Header, rendering: Rendering, limits: Limits, halvings: int
) -> Picture:
    """The upright picture: EXIF orientation applied, alpha on black, palette resolved.

    16-bit samples are scaled to 8 bits, never clipped.

    Raises:
        Rejected: COLOR_IMAGE, BILEVEL_IMAGE.
        Unreadable: DECODE_ERROR, when the data ends early or is corrupt.
    """
    image = _open(io.BytesIO(data))
    try:
        reduction = _reduce(image, data, halvings)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    # Pillow's decoders raise OSError, SyntaxError, ValueError and struct.error alike.
    except Exception as error:
        raise Unreadable(
            Failure.DECODE_ERROR,
            f"the {header.format} is corrupt or ends early ({type(error).__name__})",
        ) from error
    return replace(_polarised(_grey(image), rendering), reduction=reduction)


def _reduce(image: Image.Image, data: bytes, halvings: int) -> Reduction | None:
    """Have a JPEG loaded at a fraction of its size.

    None where it is not: that would cost the decoder as much as the whole.
    """
    if not (halvings and image.mode == "L" and codestream.has_blocks(data)):
        return None
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        return None
    columns, rows = image.size
    count = min(halvings, JPEG_HALVINGS)
    image.draft("L", (columns >> count, rows >> count))
    return Reduction(rows=rows, columns=columns, halvings=count)


def _open(stream: BinaryIO) -> Image.Image:
    try:
        return Image.open(stream, formats=("PNG", "JPEG"))
    except Image.DecompressionBombError as error:
        raise Unreadable(
            Failure.TOO_LARGE, f"over {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise Unreadable(
            Failure.CORRUPT_HEADER,
            f"it begins like a PNG or JPEG but its header is broken "
            f"({type(error).__name__})",
        ) from error


def _grey(image: Image.Image) -> Picture:
    if image.mode == "1":
        raise Rejected(Rejection.BILEVEL_IMAGE, "1 bit a pixel is no radiograph")
    if image.mode in _SIXTEEN_BIT_MODES:
        return _scaled(np.asarray(image).astype(np.uint16))
    pixels = np.asarray(image) if image.mode == "L" else _from_colour(image)
    stored = measured(f"stored values, mode {image.mode}", pixels)
    return Picture(pixels, steps=(stored,))


def _polarised(picture: Picture, rendering: Rendering) -> Picture:
    """Black is air, as far as can be told: a raster file does not say."""
    if rendering.raster_polarity == "inverted":
        pixels = 255 - picture.pixels
        step = measured("inverted, as the model's preparation says", pixels)
        return replace(picture, pixels=pixels, steps=(*picture.steps, step))
    return picture.flagged(*_suspicion(picture.pixels))


def _suspicion(pixels: NDArray[np.uint8]) -> tuple[Flag, ...]:
    """A flag where the border is brighter than the middle: air is black."""
    rows, columns = (max(1, size // _BORDER) for size in pixels.shape)
    middle = pixels[4 * rows : -4 * rows, 4 * columns : -4 * columns]
    sides = (pixels[:, :columns], pixels[:, -columns:])
    border = float(np.mean([side.mean() for side in sides]))
    inverted = middle.size > 0 and border > float(middle.mean()) + _BRIGHTER
    return (Flag.SUSPECT_INVERTED,) if inverted else ()


def _from_colour(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), rgba)
    # Pillow converts RGB to RGB by a copy.
    return luminance(np.asarray(image if image.mode == "RGB" else image.convert("RGB")))


def _scaled(stored: NDArray[np.uint16]) -> Picture:
    highest = int(stored.max())
    low_range = 0 < highest < _LOW_RANGE
    half_empty = 0 < highest < _HALF_RANGE
    white = highest if low_range else 65535
    values = np.minimum(np.arange(65536), white)
    pixels = looked_up(((values * 255 + white // 2) // white).astype(np.uint8), stored)
    return Picture(
        pixels,
        flags=(Flag.PNG_LOW_RANGE,) if half_empty else (),
        steps=(
            measured("stored values, 16 bits", stored),
            measured(f"scaled so that {white} is white", pixels),
        ),
    )
