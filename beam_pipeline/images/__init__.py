"""Bytes → model input: `read_header`, `decode` and `prepare`, for every format.

A format is a module with three names in it: `sniff(head)`, `read_header(stream)` and
`decode(data, header)`. To add one, write it and put it into `FORMATS`.
"""

from __future__ import annotations

from types import ModuleType
from typing import BinaryIO

from beam_pipeline.errors import Failure, Rejected, Rejection, Unreadable
from beam_pipeline.images import dicom, raster
from beam_pipeline.images.header import Header
from beam_pipeline.images.picture import Picture
from beam_pipeline.images.prepare import prepare

__all__ = ["FORMATS", "Header", "Picture", "decode", "prepare", "read_header"]

FORMATS = (dicom, raster)
_SNIFFED_BYTES = 512


def read_header(stream: BinaryIO) -> Header:
    """What the file says of itself; reads no further than its header.

    Raises:
        Unreadable: EMPTY_FILE, UNRECOGNISED, or what the format's reader found.
    """
    head = stream.read(_SNIFFED_BYTES)
    if not head:
        raise Unreadable(Failure.EMPTY_FILE, "the file has 0 bytes")
    stream.seek(0)
    header: Header = _format_of(head).read_header(stream)
    return header


def decode(data: bytes, header: Header) -> Picture:
    """The upright 8-bit picture in a whole file, whose header was read before.

    Raises:
        Rejected: CONSTANT_IMAGE, COLOR_IMAGE or BILEVEL_IMAGE: the pixels rule it out.
        Unreadable: the pixels cannot be decoded.
    """
    picture: Picture = _format_of(data[:_SNIFFED_BYTES]).decode(data, header)
    shown = picture.steps[-1]
    if shown.low == shown.high:
        raise Rejected(Rejection.CONSTANT_IMAGE, "every pixel has the same value")
    return picture


def _format_of(head: bytes) -> ModuleType:
    for candidate in FORMATS:
        if candidate.sniff(head):
            return candidate
    raise Unreadable(Failure.UNRECOGNISED, "the content is none of: DICOM, PNG, JPEG")
