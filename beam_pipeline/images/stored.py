"""Bit patterns → the numbers that they store, PS3.5 8.1.1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from beam_pipeline.errors import Failure, Flag, Unreadable
from beam_pipeline.images import attributes

Patterns = NDArray[np.intp]
Values = NDArray[np.float64]

# Overlay Bit Position (60xx,0102), of the sixteen overlays that there may be. Above 0
# it is the bit of each pixel that holds an overlay: retired, and still in archives.
OVERLAY_BITS: tuple[int, ...] = tuple(
    0x60000102 + (group << 16) for group in range(0, 0x20, 2)
)


def stored_values(
    dataset: Dataset, bits: int, present: Patterns
) -> tuple[Values, tuple[Flag, ...]]:
    """The number that each pattern of `bits` bits stands for, and what is odd about it.

    Bits Stored bits end at High Bit; those outside are no part of the value. Pixel
    Representation 1 is two's complement. Values that go on beyond Bits Stored are taken
    as they are: cut off there, the brightest would become the darkest.

    Args:
        dataset: the attributes that say what the patterns mean.
        bits: of a pattern, 8 or 16.
        present: the patterns in the image.

    Returns:
        float64, (2**bits,), and UNUSED_BITS_SET where a pattern has bits outside.

    Raises:
        Unreadable: UNSUPPORTED_PIXELS where Bits Stored makes no sense.
    """
    bits_stored = attributes.whole(dataset, "BitsStored")
    if bits_stored is None or not 1 <= bits_stored <= bits:
        raise Unreadable(
            Failure.UNSUPPORTED_PIXELS,
            f"Bits Stored is {bits_stored!r}, expected 1 to {bits}",
        )
    shift = _shift(dataset, bits_stored, bits)
    patterns = np.arange(2**bits)
    values = kept = (patterns >> shift) & (2**bits_stored - 1)
    if attributes.whole(dataset, "PixelRepresentation") == 1:
        sign = 2 ** (bits_stored - 1)
        values = (kept ^ sign) - sign
    # Copies of the sign above it are no news.
    extended = (values << shift) & (2**bits - 1)
    odd = (patterns != kept << shift) & (patterns != extended)
    flags = (Flag.UNUSED_BITS_SET,) if odd[present].any() else ()
    if flags and shift == 0 and _goes_on(dataset, bits_stored, present):
        values = patterns
    return values.astype(np.float64), flags


def has_overlays(dataset: Dataset) -> bool:
    """Whether some bits of the pixels are declared to be overlays."""
    return any(_bit(dataset, tag) > 0 for tag in OVERLAY_BITS)


def is_plain(dataset: Dataset, highest: int) -> bool:
    """Whether every pattern up to `highest` is the number that it looks like."""
    bits_stored = attributes.whole(dataset, "BitsStored") or 0
    high_bit = attributes.whole(dataset, "HighBit")
    return (
        attributes.whole(dataset, "PixelRepresentation") != 1
        and high_bit in (None, bits_stored - 1)
        and highest < 2 ** max(0, bits_stored)
    )


def _goes_on(dataset: Dataset, bits_stored: int, present: Patterns) -> bool:
    """Whether Bits Stored is too small for the values, rather than that bits are odd.

    Then the values reach beyond it without a gap; an overlay leaves one, or is
    declared.
    """
    if attributes.whole(dataset, "PixelRepresentation") == 1:
        return False
    if any(_bit(dataset, tag) >= bits_stored for tag in OVERLAY_BITS):
        return False
    beyond = np.unique(present >> bits_stored)
    return bool(beyond[0] == 0 and beyond[-1] == beyond.size - 1)


def _bit(dataset: Dataset, tag: int) -> int:
    # An element that is not of its VR raises anything; then there is no overlay.
    try:
        position: Any = dataset[tag].value
        return int(position)
    except Exception:
        return 0


def _shift(dataset: Dataset, bits_stored: int, bits: int) -> int:
    """How many bits lie below the value: High Bit says, unless it makes no sense."""
    lowest = bits_stored - 1
    high_bit = attributes.whole(dataset, "HighBit") or lowest
    return high_bit - lowest if lowest <= high_bit < bits else 0
