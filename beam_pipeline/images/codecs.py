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
from pydicom.pixels.utils import expand_ybr422

from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.images import codestream
from beam_pipeline.images.codestream import Declared

Stored = NDArray[np.uint8] | NDArray[np.uint16]

# Item (FFFE,E000), little endian: what encapsulated pixel data begin with, PS3.5 A.4.
_ITEM = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How Pixel Data (7FE0,0010) is laid out: the Image Pixel Module, PS3.3 C.7.6.3."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    planar_configuration: int
    photometric_interpretation: str = "MONOCHROME2"
    number_of_frames: int = 1

    @property
    def native_bytes(self) -> int:
        """How many bytes a frame takes uncompressed."""
        samples = 2 if self.is_subsampled else self.samples_per_pixel
        return self.rows * self.columns * samples * self.bits_allocated // 8

    @property
    def is_subsampled(self) -> bool:
        """Whether two 8-bit pixels share their chroma, PS3.3 C.7.6.3.1.2."""
        return (
            self.photometric_interpretation == "YBR_FULL_422"
            and self.samples_per_pixel == 3
            and self.bits_allocated == 8
            and self.columns % 2 == 0
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns), or (rows, columns, samples) for colour."""
        plane = (self.rows, self.columns)
        return plane if self.samples_per_pixel == 1 else (*plane, 3)


def decode(pixel_data: bytes, layout: Layout) -> Stored:
    """The stored values of the first frame, as unsigned bit patterns.

    uint8 or uint16, (rows, columns) or (rows, columns, 3). Signed values keep their bit
    pattern; bits above Bits Stored are as they come.

    Raises:
        Unreadable: UNSUPPORTED_TRANSFER_SYNTAX, UNSUPPORTED_PIXELS,
            PIXELDATA_TRUNCATED or DECODE_ERROR.
    """
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
    expected = layout.native_bytes
    if len(pixel_data) < expected and pixel_data.startswith(_ITEM):
        raise Unreadable(
            Failure.DECODE_ERROR,
            "the pixel data are compressed, and the Transfer Syntax UID says otherwise",
        )
    if len(pixel_data) < expected:
        raise Unreadable(
            Failure.PIXELDATA_TRUNCATED,
            f"{len(pixel_data):,} bytes of pixel data, expected {expected:,}",
        )
    if layout.is_subsampled:
        pixel_data = expand_ybr422(pixel_data[:expected], layout.bits_allocated)
    order = ">" if layout.transfer_syntax_uid == uid.ExplicitVRBigEndian else "<"
    dtype = np.dtype(f"{order}u{layout.bits_allocated // 8}")
    values = np.frombuffer(pixel_data, dtype, int(np.prod(layout.shape)))
    if layout.samples_per_pixel == 3 and layout.planar_configuration == 1:
        values = values.reshape(3, *layout.shape[:2]).transpose(1, 2, 0)
    return values.reshape(layout.shape).astype(dtype.newbyteorder("="), copy=False)


def frame(pixel_data: bytes, layout: Layout) -> bytes:
    """The codestream of the first frame, which is whole and of the header's size.

    Raises:
        Unreadable: PIXELDATA_TRUNCATED or DECODE_ERROR.
    """
    found = _first(pixel_data, layout)
    if layout.transfer_syntax_uid in _ENDED and not _ends(found):
        raise Unreadable(
            Failure.PIXELDATA_TRUNCATED, "the codestream ends without its end marker"
        )
    _check_declared(codestream.declared(found), layout)
    if codestream.lacks_tiles(found):
        raise Unreadable(
            Failure.PIXELDATA_TRUNCATED, "the codestream ends before its last tile does"
        )
    return found


def _encapsulated(pixel_data: bytes, layout: Layout) -> Stored:
    encoded = frame(pixel_data, layout)
    said = []
    for decoder in DECODERS[layout.transfer_syntax_uid]:
        try:
            values = decoder(encoded, layout)
        except MemoryError:
            raise
        # Each codec has its own exception class, and all see hostile bytes.
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
            continue
        if values.shape == layout.shape and values.dtype.itemsize <= 2:
            if layout.transfer_syntax_uid in OVERSHOOTING:
                values = clipped(values, layout.bits_stored)
            return patterns(values)
        said.append(f"the codestream is {values.shape} of {values.dtype}")
    raise Unreadable(
        Failure.DECODE_ERROR,
        f"{uid.UID(layout.transfer_syntax_uid).name}, header {layout.shape}: "
        + "; ".join(dict.fromkeys(said)),
    )


def _ends(frame: bytes) -> bool:
    # What makes its length even is written as 00, and by some as FF.
    return frame.rstrip(b"\0\xff").endswith(_END)


def _check_declared(declared: Declared | None, layout: Layout) -> None:
    """Refuse a codestream of another size, before memory is taken for it."""
    if declared is None:
        return
    found = (declared.rows, declared.columns, declared.samples)
    expected = (layout.rows, layout.columns, layout.samples_per_pixel)
    if found != expected:
        raise Unreadable(
            Failure.DECODE_ERROR, f"the codestream is {found}, the header {expected}"
        )


def clipped(values: NDArray[np.generic], bits: int) -> NDArray[np.generic]:
    """`values` within `bits`: beyond them white would be taken for black."""
    signed = values.dtype.kind == "i"
    low = -(2 ** (bits - 1)) if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    within: NDArray[np.generic] = np.clip(values, low, high)
    return within


def patterns(values: NDArray[np.generic]) -> Stored:
    """8- or 16-bit numbers as unsigned bit patterns."""
    return values.view(f"u{values.dtype.itemsize}")


def _first(pixel_data: bytes, layout: Layout) -> bytes:
    if not pixel_data.startswith(_ITEM):
        hint = (
            "; they are as long as uncompressed ones: the Transfer Syntax UID is wrong"
            if len(pixel_data) - layout.native_bytes in (0, 1)
            else ""
        )
        raise Unreadable(
            Failure.DECODE_ERROR, f"the pixel data are not encapsulated{hint}"
        )
    try:
        return next(
            generate_frames(pixel_data, number_of_frames=layout.number_of_frames)
        )
    except MemoryError:
        raise
    # pydicom raises ValueError, struct.error, EOFError and StopIteration here.
    except Exception as error:
        raise Unreadable(
            Failure.PIXELDATA_TRUNCATED,
            f"encapsulated pixel data without a whole frame ({type(error).__name__})",
        ) from error


def _jpeg(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    # Without JFIF or Adobe marker libjpeg takes three components for YCbCr.
    if layout.photometric_interpretation == "RGB" and b"Adobe" not in frame[:512]:
        return imagecodecs.jpeg8_decode(frame, colorspace="RGB", outcolorspace="RGB")
    return imagecodecs.jpeg8_decode(frame)


def _jpegls(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    return imagecodecs.jpegls_decode(frame)


def _jpeg2k(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    return imagecodecs.jpeg2k_decode(frame)


def _htj2k(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    return imagecodecs.htj2k_decode(frame)


def _rle(frame: bytes, layout: Layout) -> NDArray[np.generic]:
    dtype = np.dtype(f"<u{layout.bits_allocated // 8}")
    # No more than the header promises: two bytes of RLE can become 128.
    decoded = imagecodecs.dicomrle_decode(frame, dtype=dtype, out=layout.native_bytes)
    values = np.frombuffer(decoded, dtype)
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
# A lossy wavelet overshoots at edges. Where the codestream has more bits than are
# stored, as in 16-bit ones of 12-bit images, its decoder has no reason to clip that.
OVERSHOOTING: frozenset[str] = frozenset({uid.JPEG2000, uid.HTJ2K})
# EOI of JPEG (ISO/IEC 10918-1 B.1) and EOC of JPEG 2000 (15444-1 A.4.4).
_END = b"\xff\xd9"

# In order of preference: the next one is asked when one refuses the frame.
DECODERS: dict[str, tuple[Decoder, ...]] = {
    uid.RLELossless: (_rle,),
    uid.JPEGBaseline8Bit: (_jpeg,),
    uid.JPEGExtended12Bit: (_jpeg,),
    # liblj92 reads these too, at half the speed, and broken ones crash it.
    uid.JPEGLossless: (_jpeg,),
    uid.JPEGLosslessSV1: (_jpeg,),
    uid.JPEGLSLossless: (_jpegls,),
    uid.JPEGLSNearLossless: (_jpegls,),
    uid.JPEG2000Lossless: (_jpeg2k,),
    uid.JPEG2000: (_jpeg2k,),
    uid.HTJ2KLossless: (_htj2k, _jpeg2k),
    uid.HTJ2KLosslessRPCL: (_htj2k, _jpeg2k),
    uid.HTJ2K: (_htj2k, _jpeg2k),
}
