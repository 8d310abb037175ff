"""Bytes → model input: `read_header`, `decode` and `prepare`, for every format.

A format is a module with three names in it: `sniff(head)`, `read_header(stream, asked,
limits)` and `decode(data, header, rendering, limits, halvings)`. To add one, write it
and put it into `FORMATS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.errors import Failure, Rejected, Rejection, Unreadable
from beam_pipeline.images import bystander, dicom, raster
from beam_pipeline.images.header import Asked, Header
from beam_pipeline.images.picture import Picture
from beam_pipeline.images.prepare import halvings, prepare
from beam_pipeline.limits import Limits
from beam_pipeline.manifest import Preparation, Rendering

__all__ = [
    "FORMATS",
    "Asked",
    "Header",
    "Limits",
    "ModelInput",
    "Picture",
    "decode",
    "model_input",
    "prepare",
    "read_header",
]

FORMATS = (dicom, raster)
_SNIFFED_BYTES = 512
_ASKED = Asked()
_LIMITS = Limits()
_RENDERING = Rendering()


def read_header(
    stream: BinaryIO, uri: str = "", asked: Asked = _ASKED, limits: Limits = _LIMITS
) -> Header:
    """What the file says of itself; reads no further than its header.

    Args:
        stream: the file from its beginning.
        uri: where it is; a file that no format knows may be known by its name.
        asked: what to keep besides the columns.
        limits: what reading it may cost.

    Raises:
        Rejected: ARCHIVE or NON_IMAGE.
        Unreadable: EMPTY_FILE, UNRECOGNISED, or what the format's reader found.
    """
    head = stream.read(_SNIFFED_BYTES)
    stream.seek(0)
    found = _format_of(head)
    if found is None:
        bystander.reject(head, uri)
        if not head:
            raise Unreadable(Failure.EMPTY_FILE, "the file has 0 bytes")
        raise Unreadable(
            Failure.UNRECOGNISED, "the content is none of: DICOM, PNG, JPEG"
        )
    header: Header = found.read_header(stream, asked, limits)
    return header


@dataclass(frozen=True)
class ModelInput:
    """What the model sees of a file.

    Attributes:
        image: uint8, (height, width, 1).
        picture: what it was made of, perhaps at a fraction of the file's size.
    """

    image: NDArray[np.uint8]
    picture: Picture


def model_input(
    data: bytes, header: Header, preparation: Preparation, limits: Limits = _LIMITS
) -> ModelInput:
    """What the model sees of a whole file, whose header was read before.

    No more of it is decoded than the preparation needs.

    Raises:
        Rejected, Unreadable: as `decode` does.
    """
    shape = (header.rows or 0, header.columns or 0)
    aspect = header.pixel_aspect
    count = halvings(shape, preparation, aspect) if all(shape) else 0
    picture = decode(data, header, preparation.rendering, limits, count)
    image = prepare(picture.pixels, preparation, aspect, picture.reduction)
    return ModelInput(image, picture)


def decode(
    data: bytes,
    header: Header,
    rendering: Rendering = _RENDERING,
    limits: Limits = _LIMITS,
    halvings: int = 0,
) -> Picture:
    """The upright 8-bit picture in a whole file, whose header was read before.

    It may be halved `halvings` times, where that costs the decoder less and the picture
    nothing that can be seen: `Picture.reduction` says so.

    Raises:
        Rejected: CONSTANT_IMAGE, COLOR_IMAGE or BILEVEL_IMAGE: the pixels rule it out.
        Unreadable: the pixels cannot be decoded, or are too many.
    """
    limits.check_pixels(header.rows or 0, header.columns or 0)
    found = _format_of(data[:_SNIFFED_BYTES])
    if found is None:
        raise Unreadable(Failure.READ_FAILED, "the file changed while it was read")
    picture: Picture = found.decode(data, header, rendering, limits, halvings)
    shown = picture.steps[-1]
    if shown.low == shown.high and picture.reduction:
        # What the whole of it shows may be finer.
        return decode(data, header, rendering, limits)
    if shown.low == shown.high:
        raise Rejected(Rejection.CONSTANT_IMAGE, "every pixel has the same value")
    return picture


def _format_of(head: bytes) -> ModuleType | None:
    return next((known for known in FORMATS if known.sniff(head)), None)
