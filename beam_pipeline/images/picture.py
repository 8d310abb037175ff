"""The upright 8-bit picture that every format becomes, and how it came about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
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


@dataclass(frozen=True)
class Picture:
    """What a radiologist's screen would show: air black, bone white.

    Attributes:
        pixels: uint8, (rows, columns), 0 = black, 255 = white.
        voi: which VOI transformation made it; None where the format has none.
        flags: what a reader of the score should know.
        steps: every transformation, in order.
    """

    pixels: NDArray[np.uint8]
    voi: str | None = None
    flags: tuple[Flag, ...] = ()
    steps: tuple[Step, ...] = ()

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
    """`table[stored]`, uint8 (rows, columns), in bands."""
    picture = np.empty(stored.shape, np.uint8)
    for band in bands(stored):
        picture[band] = table[stored[band]]
    return picture


def bands(pixels: NDArray[np.generic]) -> Iterator[slice]:
    """Slices of rows that cover `pixels`, (rows, columns, …).

    NumPy widens what it looks up or multiplies to several bytes a pixel; of a part of
    the image at a time that is little.
    """
    step = max(1, _BAND_PIXELS // pixels.shape[1])
    return (slice(row, row + step) for row in range(0, len(pixels), step))
