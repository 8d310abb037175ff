"""Files that promise more than they hold, or hold more than they promise.

Each function gives the bytes of one. They are small: what they cost shows only when
somebody reads them.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from pydicom import uid
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate

from beam_pipeline.doctor import ENCODERS
from tests import radiographs

# The largest that Rows and Columns can say.
SIDE = 65535
# Of the picture that most of them are made from.
ROWS, COLUMNS = 100, 80
_SEQUENCE = b"\x40\x00\x75\x02"  # Request Attributes Sequence (0040,0275)
_ITEM = b"\xfe\xff\x00\xe0"
_UNDEFINED = b"\xff\xff\xff\xff"


def dicom(**attributes: object) -> FileDataset:
    """A small radiograph that could be scored."""
    return radiographs.dicom(radiographs.gradient(ROWS, COLUMNS), **attributes)


def pixel_data_at(data: bytes) -> int:
    """Where the element Pixel Data begins in a little endian file."""
    return data.rindex(b"\xe0\x7f\x10\x00")


def huge_rows(transfer_syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    """A header that promises 65535 × 65535 pixels."""
    pixels = radiographs.gradient(ROWS, COLUMNS)
    return radiographs.to_bytes(
        radiographs.dicom(
            pixels, transfer_syntax=transfer_syntax, Rows=SIDE, Columns=SIDE
        )
    )


def encapsulated(frame: bytes, transfer_syntax: str, **attributes: object) -> bytes:
    """A DICOM file around a compressed frame."""
    dataset = dicom(**attributes)
    dataset.file_meta.TransferSyntaxUID = uid.UID(transfer_syntax)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    return radiographs.to_bytes(dataset)


def larger_codestream(transfer_syntax: str) -> bytes:
    """A codestream of 600 × 500 pixels in a header that says 100 × 80."""
    frame = bytes(ENCODERS[transfer_syntax](radiographs.gradient(600, 500)))
    return encapsulated(frame, transfer_syntax)


def many_tiles(side: int = 2000, tile: int = 8) -> bytes:
    """A JPEG 2000 codestream of tiles that each want a structure of their own."""
    frame = bytearray(
        ENCODERS[uid.JPEG2000Lossless](radiographs.gradient(ROWS, COLUMNS))
    )
    siz = frame.index(b"\xff\x51")
    # SIZ, ISO/IEC 15444-1 A.5.1: Xsiz, Ysiz, XOsiz, YOsiz, XTsiz, YTsiz.
    struct.pack_into(">6I", frame, siz + 6, side, side, 0, 0, tile, tile)
    return encapsulated(bytes(frame), uid.JPEG2000Lossless, Rows=side, Columns=side)


def deflate_bomb(size: int) -> bytes:
    """A deflated data set that grows to `size` bytes."""
    dataset = dicom(transfer_syntax=uid.DeflatedExplicitVRLittleEndian)
    data = radiographs.to_bytes(dataset)
    start = _data_set_at(data)
    inflated = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    before = inflated[: pixel_data_at(inflated)]
    header = b"\x09\x00\x10\x10OB\0\0" + struct.pack("<I", size & ~1)
    parts = [deflater.compress(before), deflater.compress(header)]
    parts += [deflater.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return data[:start] + b"".join(parts) + deflater.flush()


def _data_set_at(data: bytes) -> int:
    """Where the data set begins, after File Meta Information (PS3.10 7.1)."""
    (length,) = struct.unpack_from("<I", data, 140)
    return int(144 + length)


def rle_bomb(size: int) -> bytes:
    """RLE (PS3.5 G) whose only segment becomes `size` bytes, for 100 × 80 pixels."""
    runs = b"\x81\x2a" * (size // 128)
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    return encapsulated(header + runs, uid.RLELossless)


def empty_items(count: int) -> bytes:
    """A sequence of items that hold nothing: 8 bytes each, and an object to readers."""
    data = radiographs.to_bytes(dicom())
    at = pixel_data_at(data)
    items = (_ITEM + bytes(4)) * count + b"\xfe\xff\xdd\xe0" + bytes(4)
    return data[:at] + _SEQUENCE + b"SQ\0\0" + _UNDEFINED + items + data[at:]


def nested(levels: int) -> bytes:
    """Sequences within sequences, of undefined length."""
    opening = _SEQUENCE + b"SQ\0\0" + _UNDEFINED + _ITEM + _UNDEFINED
    data = radiographs.to_bytes(dicom())
    at = pixel_data_at(data)
    return data[:at] + opening * levels + data[at:]


def endless_element(vr: bytes, tag: bytes, length: bytes = _UNDEFINED) -> bytes:
    """A header whose last element, before nothing, says that it goes on and on."""
    data = radiographs.to_bytes(dicom())
    return data[: pixel_data_at(data)] + tag + vr + b"\0\0" + length


def png_chunk(name: bytes, data: bytes) -> bytes:
    """One chunk: length, name, data and checksum."""
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png(rows: int, columns: int, *chunks: bytes, grown: int = 0) -> bytes:
    """A grey PNG that promises rows × columns and inflates to `grown` zeros."""
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", struct.pack(">2I5B", columns, rows, 8, 0, 0, 0, 0)),
            *chunks,
            png_chunk(b"IDAT", zlib.compress(bytes(grown), 9)),
            png_chunk(b"IEND", b""),
        )
    )


def png_text_bomb(size: int) -> bytes:
    """A PNG whose comment inflates to `size` bytes."""
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size), 9))
    return png(ROWS, COLUMNS, text)


def png_profile_bomb(size: int) -> bytes:
    """A PNG whose colour profile inflates to `size` bytes."""
    profile = png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(size), 9))
    return png(ROWS, COLUMNS, profile)


def _segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def many_scans(rows: int, columns: int, scans: int) -> bytes:
    """A progressive JPEG in which every scan goes over all blocks and says nothing.

    Its Huffman table has one code, `0`, for End of Band with 14 bits of length
    (ISO/IEC 10918-1 G.1.2.2): fifteen zero bits are 16,384 blocks.
    """
    blocks = -(-rows // 8) * -(-columns // 8)
    band = bytes(-(-(15 * -(-blocks // 2**14)) // 8))
    table = _segment(0xC4, b"\x10\x01" + bytes(15) + b"\xe0")
    scan = _segment(0xDA, bytes((1, 1, 0, 1, 63, 0))) + band
    frame = struct.pack(">BHHB", 8, rows, columns, 1) + bytes((1, 0x11, 0))
    quantization = _segment(0xDB, b"\0" + b"\1" * 64)
    start = b"\xff\xd8" + quantization + _segment(0xC2, frame) + table
    return start + scan * scans + b"\xff\xd9"


def jpeg_behind_garbage(rows: int, columns: int) -> bytes:
    """A JPEG that says its size behind bytes which decoders pass over."""
    data = many_scans(rows, columns, 1)
    return data[:2] + _segment(0xFE, b"") + b"garbage" + data[2:]


def text(words: int) -> bytes:
    """What people keep beside their images."""
    return b"Canary^Patient has a cough. " * words


def noise(size: int, seed: int) -> bytes:
    """Bytes of no format."""
    return np.random.default_rng(seed).bytes(size)
