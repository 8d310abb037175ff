"""The encodings of a benchmark's archive: pixels of a radiograph → bytes of a frame."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import imagecodecs
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid

from beam_pipeline.doctor import ENCODERS

# Type and data of an empty chunk, the last of every PNG (ISO/IEC 15948, 11.2.5).
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"


Encoder = Callable[[NDArray[Any]], bytes | bytearray]


@dataclass(frozen=True)
class Encoding:
    """How files of one kind keep their pixels.

    Attributes:
        bits: 8 or 12, that a pixel has.
        encode: uint8 or uint16 (rows, columns) → a frame; of a PNG, the whole file.
        transfer_syntax_uid: of DICOM; None for PNG.
    """

    bits: int
    encode: Encoder
    transfer_syntax_uid: str | None = None


def _native(pixels: NDArray[Any]) -> bytes:
    return pixels.tobytes()


def _png(pixels: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


# Where an encoder can be told that a codestream has 12 bits a pixel, as a detector's
# has, and not 16, it is.
_jpeg2000: Callable[..., bytes | bytearray] = partial(
    imagecodecs.jpeg2k_encode, codecformat="j2k", bitspersample=12
)
_jpeg_lossless: Encoder = partial(
    imagecodecs.jpeg8_encode, lossless=True, predictor=1, bitspersample=12
)
_jpeg: Encoder = partial(imagecodecs.jpeg8_encode, level=95)
ENCODINGS: dict[str, Encoding] = {
    "uncompressed": Encoding(12, _native, uid.ExplicitVRLittleEndian),
    "jpeg2000_lossless": Encoding(
        12, partial(_jpeg2000, reversible=True), uid.JPEG2000Lossless
    ),
    "jpegls": Encoding(12, imagecodecs.jpegls_encode, uid.JPEGLSLossless),
    "jpeg_lossless": Encoding(12, _jpeg_lossless, uid.JPEGLosslessSV1),
    "htj2k_lossless": Encoding(12, ENCODERS[uid.HTJ2KLossless], uid.HTJ2KLossless),
    "jpeg_baseline": Encoding(8, _jpeg, uid.JPEGBaseline8Bit),
    "jpeg2000_lossy": Encoding(12, partial(_jpeg2000, level=80), uid.JPEG2000),
    "png": Encoding(8, _png),
}
MIX = ("uncompressed", "jpeg2000_lossless", "jpegls", "jpeg_lossless")


def commented(png: bytes, comment: str) -> bytes:
    """The PNG with a comment more: other bytes, the same picture."""
    data = b"tEXtComment\0" + comment.encode()
    length = (len(data) - 4).to_bytes(4, "big")
    chunk = length + data + zlib.crc32(data).to_bytes(4, "big")
    if not png.endswith(_PNG_END):
        raise ValueError("the PNG does not end with its last chunk")
    return png.removesuffix(_PNG_END) + chunk + _PNG_END
