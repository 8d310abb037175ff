"""What a compressed frame says of its size, before a decoder takes memory for it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

# JPEG, ISO/IEC 10918-1 table B.1: every SOFn but DHT (C4), JPG (C8) and DAC (CC); and
# SOF55 of JPEG-LS, ISO/IEC 14495-1 C.1.1.
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
# Markers without a length: TEM, RSTn, SOI and EOI.
_ALONE = frozenset({0x01, *range(0xD0, 0xDA)})
_START_OF_TILE, _END = b"\xff\x90", b"\xff\xd9"
# COD and COC, 15444-1 A.6.1 and A.6.2.
_CODING_STYLE, _COMPONENT_CODING_STYLE = b"\xff\x52", b"\xff\x53"
_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
# JPEG 2000 in its file format, which some archives store: the codestream is a box.
_JP2 = b"\x00\x00\x00\x0cjP  "


@dataclass(frozen=True)
class Declared:
    """What a codestream says of its own size.

    Attributes:
        marker: of a JPEG, the second byte of SOFn.
    """

    rows: int
    columns: int
    samples: int
    marker: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Wavelet:
    """How a JPEG 2000 codestream of one component keeps its resolution levels.

    Attributes:
        levels: how many times it can be halved.
        precision: bits of a sample.
        signed: whether samples can be negative.
        reversible: whether its filter is the 5-3, and not the 9-7.
    """

    levels: int
    precision: int
    signed: bool
    reversible: bool


def declared(frame: bytes) -> Declared | None:
    """What a JPEG, JPEG-LS or JPEG 2000 codestream declares.

    None where it is none of these, or its header cannot be read.
    """
    try:
        if frame.startswith(_JP2):
            return _jpeg_2000(frame, frame.index(_JPEG_2000))
        if frame.startswith(_JPEG_2000):
            return _jpeg_2000(frame, 0)
        return _jpeg(frame) if frame.startswith(_JPEG) else None
    except (struct.error, ValueError, IndexError):
        return None


def lacks_tiles(frame: bytes) -> bool:
    """Whether a JPEG 2000 codestream ends before the last byte of its last tile.

    Decoders fill in what is missing and say nothing. False where it is none.
    """
    try:
        start = frame.index(_JPEG_2000) if frame.startswith(_JP2) else 0
        return frame.startswith(_JPEG_2000, start) and _ends_early(frame, start)
    except (struct.error, ValueError, IndexError, ZeroDivisionError):
        return True


def wavelet(frame: bytes) -> Wavelet:
    """The resolution levels of a JPEG 2000 frame: ISO/IEC 15444-1 A.5.1 and A.6.1.

    None of them where the image does not begin at the origin of its grid, where
    components differ, or in a file format, whose boxes may change what samples mean.

    Raises:
        ValueError, struct.error, IndexError: the main header is none.
    """
    left, top = struct.unpack_from(">2I", frame, 16)
    (components,) = struct.unpack_from(">H", frame, 40)
    depth = frame[42]
    position, levels, transformation = 2, 0, 0
    while (marker := frame[position : position + 2]) != _START_OF_TILE:
        (length,) = struct.unpack_from(">H", frame, position + 2)
        if marker[0] != 0xFF or length < 2:
            raise ValueError("no marker segment")
        if marker == _CODING_STYLE:
            levels, transformation = frame[position + 9], frame[position + 13]
        if marker == _COMPONENT_CODING_STYLE:
            components = 0
        position += 2 + length
    return Wavelet(
        levels=levels if (left, top, components) == (0, 0, 1) else 0,
        precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        reversible=transformation == 1,
    )


def has_blocks(frame: bytes) -> bool:
    """Whether a JPEG is made of blocks of frequencies, and not of predicted pixels.

    SOF0, SOF1 and SOF2 of ISO/IEC 10918-1 table B.1. A decoder that is told to scale
    the others writes beyond what was allocated.
    """
    found = declared(frame) if frame.startswith(_JPEG) else None
    return found is not None and found.marker in (0xC0, 0xC1, 0xC2)


def _ends_early(frame: bytes, start: int) -> bool:
    # SIZ, 15444-1 A.5.1: the reference grid, the size of a tile, where tiles begin.
    grid = struct.unpack_from(">2I", frame, start + 8)
    size = struct.unpack_from(">2I", frame, start + 24)
    first = struct.unpack_from(">2I", frame, start + 32)
    across, down = (-(-(g - f) // s) for g, s, f in zip(grid, size, first, strict=True))
    position, tiles = start + 2, set()
    while frame[position : position + 2] != _END and position + 12 <= len(frame):
        if frame[position : position + 2] != _START_OF_TILE:
            position += 2 + struct.unpack_from(">H", frame, position + 2)[0]
            continue
        # SOT, A.4.2; a length of 0 reaches to the end.
        tile, length = struct.unpack_from(">HI", frame, position + 4)
        tiles.add(tile)
        position = position + length if length else len(frame)
    return position > len(frame) or len(tiles) < across * down


def _jpeg_2000(frame: bytes, start: int) -> Declared:
    """SIZ, ISO/IEC 15444-1 A.5.1: the reference grid less its offset."""
    columns, rows, left, top = struct.unpack_from(">4I", frame, start + 8)
    (samples,) = struct.unpack_from(">H", frame, start + 40)
    return Declared(rows - top, columns - left, samples)


def _jpeg(frame: bytes) -> Declared | None:
    position = 2
    while position < len(frame):
        if frame[position] != 0xFF:
            return None
        marker = frame[position + 1]
        if marker == 0xFF:
            # Fill bytes may stand before a marker, B.1.1.2.
            position += 1
        elif marker in _ALONE:
            position += 2
        elif marker in _FRAME_HEADERS:
            rows, columns, samples = struct.unpack_from(">HHB", frame, position + 5)
            return Declared(rows, columns, samples, marker)
        else:
            position += 2 + struct.unpack_from(">H", frame, position + 2)[0]
    return None
