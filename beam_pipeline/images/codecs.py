"""Transfer syntax → stored values, by the fastest decoder that has it.

`DECODERS` is the whole matrix: to add a transfer syntax, add a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import generate_frames

from beam_pipeline.errors import Failure, Unreadable

Stored = NDArray[np.uint8] | NDArray[np.uint16]

# Pillow's limit for PNG and JPEG, kept for DICOM too: four times a large radiograph.
_MOST_PIXELS = 89_478_485


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How Pixel Data (7FE0,0010) is laid out: the Image Pixel Module, PS3.3 C.7.6.3."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    planar_configuration: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns), or (rows, columns, samples) for colour."""
        plane = (self.rows, self.columns)
        return plane if self.samples_per_pixel == 1 else (*plane, 3)


def decode(pixel_data: bytes, layout: Layout) -> Stored:
    """The stored values of the only frame, as unsigned bit patterns.

    uint8 or uint16, (rows, columns) or (rows, columns, 3). Signed values keep their bit
    pattern; bits above Bits Stored are as they come.

    Raises:
        Unreadable: UNSUPPORTED_TRANSFER_SYNTAX, UNSUPPORTED_PIXELS, TOO_LARGE,
            PIXELDATA_TRUNCATED or DECODE_ERROR.
    """
    if layout.rows * layout.columns > _MOST_PIXELS:
        raise Unreadable(
            Failure.TOO_LARGE, f"{layout.rows} × {layout.columns} pixels are too many"
        )
    if layout.samples_per_pixel not in (1, 3) or layout.bits_allocated not in (8, 16):
        raise Unreadable(
            Failure.UNSUPPORTED_PIXELS,
            f"{layout.samples_per_pixel} samples of {layout.bits_allocated} bits a "
            "pixel; 1 or 3 of 8 or 16 can be read",
        )
    syntax = layout.transfer_syntax_uid
    if syntax in NATIVE:
        return _native(pixel_data, layout)
    if syntax not in DECODERS:
        name = uid.UID(syntax).name
        raise Unreadable(
            Failure.UNSUPPORTED_TRANSFER_SYNTAX, f"no decoder for {name} ({syntax})"
        )
    return _encapsulated(pixel_data, layout)


def _native(pixel_data: bytes, layout: Layout) -> Stored:
    order = ">" if layout.transfer_syntax_uid == uid.ExplicitVRBigEndian else "<"
    count = int(np.prod(layout.shape))
    expected = count * layout.bits_allocated // 8
    if len(pixel_data) < expected:
        raise Unreadable(
            Failure.PIXELDATA_TRUNCATED,
            f"{len(pixel_data):,} bytes of pixel data, expected {expected:,}",
        )
    dtype = np.dtype(f"{order}u{layout.bits_allocated // 8}")
    values = np.frombuffer(pixel_data, dtype, count)
    if layout.samples_per_pixel == 3 and layout.planar_configuration == 1:
        values = values.reshape(3, *layout.shape[:2]).transpose(1, 2, 0)
    return values.reshape(layout.shape).astype(dtype.newbyteorder("="), copy=False)


def _encapsulated(pixel_data: bytes, layout: Layout) -> Stored:
    try:
        frame = next(generate_frames(pixel_data, number_of_frames=1))
    # pydicom raises ValueError, struct.error, EOFError and StopIteration here.
    except Exception as error:
        raise Unreadable(
            Failure.PIXELDATA_TRUNCATED,
            f"encapsulated pixel data without a whole frame ({type(error).__name__})",
        ) from error
    if layout.transfer_syntax_uid in _ENDED and not frame.rstrip(b"\0").endswith(_END):
        raise Unreadable(
            Failure.PIXELDATA_TRUNCATED, "the codestream ends without its end marker"
        )
    said = []
    for decoder in DECODERS[layout.transfer_syntax_uid]:
        try:
            values = decoder(frame, layout)
        # Each codec has its own exception class, and all see hostile bytes.
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
            continue
        if values.shape == layout.shape and values.dtype.itemsize <= 2:
            return values.view(f"u{values.dtype.itemsize}")
        said.append(f"the codestream is {values.shape} of {values.dtype}")
    raise Unreadable(
        Failure.DECODE_ERROR,
        f"{uid.UID(layout.transfer_syntax_uid).name}, header {layout.shape}: "
        + "; ".join(dict.fromkeys(said)),
    )


def _jpeg(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    return imagecodecs.jpeg8_decode(frame)


def _ljpeg(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    return imagecodecs.ljpeg_decode(frame)


def _jpegls(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    return imagecodecs.jpegls_decode(frame)


def _jpeg2k(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    return imagecodecs.jpeg2k_decode(frame)


def _htj2k(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    return imagecodecs.htj2k_decode(frame)


def _rle(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    dtype = np.dtype(f"<u{layout.bits_allocated // 8}")
    values = np.frombuffer(imagecodecs.dicomrle_decode(frame, dtype=dtype), dtype)
    # PS3.5 G.2: RLE keeps each sample in a plane of its own.
    planes = values.reshape(layout.samples_per_pixel, layout.rows, layout.columns)
    return planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0)


Decoder = Callable[[bytes, Layout], NDArray[np.generic]]

NATIVE: frozenset[str] = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    }
)

# Their decoders fill in what is missing at the end and say nothing.
_ENDED: frozenset[str] = frozenset(
    {
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEGLossless,
        uid.JPEGLosslessSV1,
        uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL,
        uid.HTJ2K,
    }
)
# EOI of JPEG (ISO/IEC 10918-1 B.1) and EOC of JPEG 2000 (15444-1 A.4.4).
_END = b"\xff\xd9"

# In order of preference: the next one is asked when one refuses the frame.
DECODERS: dict[str, tuple[Decoder, ...]] = {
    uid.RLELossless: (_rle,),
    uid.JPEGBaseline8Bit: (_jpeg,),
    uid.JPEGExtended12Bit: (_jpeg,),
    uid.JPEGLossless: (_ljpeg, _jpeg),
    uid.JPEGLosslessSV1: (_ljpeg, _jpeg),
    uid.JPEGLSLossless: (_jpegls,),
    uid.JPEGLSNearLossless: (_jpegls,),
    uid.JPEG2000Lossless: (_jpeg2k,),
    uid.JPEG2000: (_jpeg2k,),
    uid.HTJ2KLossless: (_htj2k, _jpeg2k),
    uid.HTJ2KLosslessRPCL: (_htj2k, _jpeg2k),
    uid.HTJ2K: (_htj2k, _jpeg2k),
}
