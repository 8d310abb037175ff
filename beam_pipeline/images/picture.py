"""The upright 8-bit picture that every format becomes, and how it came about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from beam_pipeline.errors import Flag, Rejected, Rejection

# Lossy chroma makes grey films a little coloured; a photograph differs by far more.
_GREY_TOLERANCE = 16
_GREY_SHARE = 0.99
_BAND_PIXELS = 2**20


@dataclass(frozen=True)
class Step:
    """One transformation and the range of the values after it."""

    name: str
    low: float
    high: float


# The scaled inverse DCT of libjpeg also gives 1/8, which is the mean of each block: it
# blurs, where 1/2 and 1/4 keep what they have room for, and is hardly faster.
JPEG_HALVINGS = 2


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """How an image was halved while it was decoded.

    Attributes:
        rows: of the whole image.
        columns: of the whole image.
        halvings: how often both were halved, and rounded up.
        offset: how far to the lower right of the first pixel's corner the image begins,
            in pixels of what is left.
        lift: of low frequencies ω, in radians a pixel: each halving took them times
            1 + `lift` ω².
    """

    rows: int
    columns: int
    halvings: int
    offset: float = 0.0
    lift: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of what is left."""
        scale = 2**self.halvings
        return -(-self.rows // scale), -(-self.columns // scale)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Where in it the image lies: left, upper, right, lower, as Pillow has it."""
        scale, offset = 2**self.halvings, self.offset
        return offset, offset, self.columns / scale + offset, self.rows / scale + offset


@dataclass(frozen=True)
class Picture:
    """What a radiologist's screen would show: air black, bone white.

    Attributes:
        pixels: uint8, (rows, columns), 0 = black, 255 = white.
        reduction: None where the image was decoded at its full size.
        voi: which VOI transformation made it; None where the format has none.
        flags: what a reader of the score should know.
        steps: every transformation, in order.
    """

    pixels: NDArray[np.uint8]
    voi: str | None = None
    flags: tuple[Flag, ...] = ()
    steps: tuple[Step, ...] = ()
    reduction: Reduction | None = None

    def flagged(self, *flags: Flag) -> Picture:
        """With `flags` as well."""
        return replace(self, flags=self.flags + flags)


def measured(name: str, values: NDArray[np.generic]) -> Step:
    """The step `name`, with the range that it left the values in."""
    return Step(name, float(values.min()), float(values.max()))


def luminance(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The grey picture, uint8 (rows, columns), in a nearly grey (rows, columns, 3).

    A film that was scanned or captured in colour has three nearly equal channels; an
    annotated screenshot or a photograph has not.

    Raises:
        Rejected: COLOR_IMAGE, when over 1 % of the pixels are coloured.
    """
    picture = np.empty(rgb.shape[:2], np.uint8)
    coloured = 0
    # ITU-R BT.601, in integers: the weights that Pillow and JPEG use.
    weights = np.array([19595, 38470, 7471], np.uint32)
    for band in bands(rgb):
        part = rgb[band]
        spread = part.max(axis=2) - part.min(axis=2)
        coloured += int((spread > _GREY_TOLERANCE).sum())
        picture[band] = (part @ weights + 32768) >> 16
    grey = 1 - coloured / picture.size
    if grey < _GREY_SHARE:
        raise Rejected(
            Rejection.COLOR_IMAGE,
            f"{1 - grey:.0%} of the pixels are coloured; a radiograph is grey",
        )
    return picture


def looked_up(
    table: NDArray[np.uint8], stored: NDArray[np.uint8] | NDArray[np.uint16]
) -> NDArray[np.uint8]:
    """`table[stored]`, uint8 (rows, columns); every pattern has an entry."""
    # NumPy widens every index to eight bytes first, and takes five times as long.
    found = pc.take(_arrow(table), _arrow(stored), boundscheck=False)
    picture = np.frombuffer(found.buffers()[1], np.uint8, len(found))
    return picture.reshape(stored.shape)


def _arrow(values: NDArray[np.generic]) -> pa.Array:
    """`values` as Arrow has them, not copied where they lie one behind the other."""
    flat = np.ascontiguousarray(values).reshape(-1)
    # `pa.array` would import pandas, which takes half a second and 60 MB.
    kind = pa.from_numpy_dtype(flat.dtype)
    return pa.Array.from_buffers(kind, len(flat), [None, pa.py_buffer(flat)])


def bands(pixels: NDArray[np.generic]) -> Iterator[slice]:
    """Slices of rows that cover `pixels`, (rows, columns, …).

    NumPy widens what it looks up or multiplies to several bytes a pixel; of a part of
    the image at a time that is little.
    """
    step = max(1, _BAND_PIXELS // pixels.shape[1])
    return (slice(row, row + step) for row in range(0, len(pixels), step))
