"""The DICOM grayscale pipeline: stored value → 8-bit grey, as one lookup table.

Modality LUT, VOI LUT and polarity (PS3.4 N.2) act on each pixel by itself, so the whole
chain is computed once for every value that a pixel can store, exactly and in float64,
and the image is touched once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from beam_pipeline.errors import Failure, Flag, Unreadable
from beam_pipeline.images import attributes
from beam_pipeline.images.codecs import Stored
from beam_pipeline.images.picture import Picture, Step, measured

Values = NDArray[np.float64]

# Percentiles need no more pixels than this; the rest of a radiograph says the same.
_SAMPLED_PIXELS = 250_000
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class _Grey:
    """Values after some steps, one for each bit pattern a pixel can store.

    Attributes:
        values: float64, (256,) or (65536,), indexed by bit pattern.
        present: the bit patterns in the image, without padding.
    """

    values: Values
    present: NDArray[np.intp]
    voi: str = ""
    flags: tuple[Flag, ...] = ()
    steps: tuple[Step, ...] = ()

    def after(self, name: str, values: Values, *flags: Flag) -> _Grey:
        step = measured(name, values[self.present])
        return replace(
            self,
            values=values,
            flags=self.flags + flags,
            steps=(*self.steps, step),
        )


def render(stored: Stored, dataset: Dataset) -> Picture:
    """The upright 8-bit picture of single-sample stored values.

    Args:
        stored: uint8 or uint16 bit patterns, (rows, columns).
        dataset: the attributes that say what they mean.

    Raises:
        Unreadable: BAD_RESCALE, or UNSUPPORTED_PIXELS where Bits Stored makes no sense.
    """
    values = stored_values(dataset, 8 * stored.dtype.itemsize)
    padding = _padding(values, dataset)
    grey = _Grey(values, _present(stored, padding))
    grey = grey.after("stored values", values)
    grey = _apply_voi(_apply_modality(grey, dataset), stored, padding, dataset)
    if attributes.code(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        # PS3.3 C.7.6.3.1.2: the minimum is white *after* VOI, so the inversion comes
        # last; Presentation LUT Shape INVERSE says the same again and is no second one.
        grey = grey.after("MONOCHROME1 inverted", 1 - grey.values)
    table = np.rint(255 * grey.values).astype(np.uint8)
    table[padding] = 0
    pixels = table[stored]
    shown = measured("scaled to 8 bits", table[grey.present])
    return Picture(pixels, grey.voi, grey.flags, (*grey.steps, shown))


def stored_values(dataset: Dataset, bits: int) -> Values:
    """The number that each pattern of `bits` bits stands for: float64, (2**bits,).

    PS3.5 8.1.1: Bits Stored bits end at High Bit; those outside are no part of the
    value. Pixel Representation 1 is two's complement.
    """
    bits_stored = attributes.whole(dataset, "BitsStored")
    if bits_stored is None or not 1 <= bits_stored <= bits:
        raise Unreadable(
            Failure.UNSUPPORTED_PIXELS,
            f"Bits Stored is {bits_stored!r}, expected 1 to {bits}",
        )
    lowest = bits_stored - 1
    high_bit = attributes.whole(dataset, "HighBit") or lowest
    shift = high_bit - lowest if lowest <= high_bit < bits else 0
    values = (np.arange(2**bits) >> shift) & (2**bits_stored - 1)
    if attributes.whole(dataset, "PixelRepresentation") == 1:
        sign = 2 ** (bits_stored - 1)
        values = (values ^ sign) - sign
    numbers: Values = values.astype(np.float64)
    return numbers


def _padding(values: Values, dataset: Dataset) -> NDArray[np.bool_]:
    """Which bit patterns are padding: PS3.3 C.7.5.1.1.2, before the Modality LUT."""
    value = attributes.whole(dataset, "PixelPaddingValue")
    if value is None:
        return np.zeros(values.shape, bool)
    limit = attributes.whole(dataset, "PixelPaddingRangeLimit")
    limit = value if limit is None else limit
    low, high = sorted((value, limit))
    padding: NDArray[np.bool_] = (values >= low) & (values <= high)
    return padding


def _present(stored: Stored, padding: NDArray[np.bool_]) -> NDArray[np.intp]:
    found = np.zeros(padding.shape, bool)
    found[stored] = True
    image = np.flatnonzero(found & ~padding)
    # An image of nothing but padding has no other range to show.
    return image if image.size else np.flatnonzero(found)


def _apply_modality(grey: _Grey, dataset: Dataset) -> _Grey:
    """PS3.3 C.11.1: the Modality LUT Sequence, or Rescale Slope and Intercept."""
    flags: tuple[Flag, ...] = ()
    item = attributes.value(dataset, "ModalityLUTSequence")
    if item is not None:
        lut = read_lut(item, dataset)
        if lut is not None:
            return grey.after("Modality LUT Sequence", lut.apply(grey.values))
        flags = (Flag.BAD_MODALITY_LUT,)
    slope = attributes.number(dataset, "RescaleSlope")
    slope = 1.0 if slope is None else slope
    intercept = attributes.number(dataset, "RescaleIntercept") or 0.0
    if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
        raise Unreadable(
            Failure.BAD_RESCALE, f"Rescale Slope {slope}, Intercept {intercept}"
        )
    name = f"rescaled, slope {slope:g}, intercept {intercept:g}"
    return grey.after(name, grey.values * slope + intercept, *flags)


def _apply_voi(
    grey: _Grey, stored: Stored, padding: NDArray[np.bool_], dataset: Dataset
) -> _Grey:
    """PS3.3 C.11.2: the VOI LUT, else the first window, else percentiles; to [0, 1]."""
    flags: tuple[Flag, ...] = ()
    item = attributes.value(dataset, "VOILUTSequence")
    if item is not None:
        lut = read_lut(item, dataset)
        if lut is not None:
            shown = lut.apply(grey.values) / lut.full_scale
            grey = replace(grey, voi="lut")
            return grey.after("VOI LUT Sequence", np.clip(shown, 0, 1))
        flags = (Flag.BAD_VOI_LUT,)
    window = _window(dataset)
    if window is not None:
        name = f"window {window.center:g}/{window.width:g} {window.function}"
        grey = replace(grey, voi="window")
        return grey.after(name, window.apply(grey.values), *flags)
    if "WindowCenter" in dataset or "WindowWidth" in dataset:
        flags += (Flag.BAD_WINDOW,)
    low, high = _percentiles(grey.values, stored, padding)
    shown = np.clip((grey.values - low) / max(high - low, 1e-9), 0, 1)
    grey = replace(grey, voi="percentile")
    name = f"percentiles {low:g} to {high:g}"
    return grey.after(name, shown, *flags, Flag.VOI_PERCENTILE)


def _percentiles(
    values: Values, stored: Stored, padding: NDArray[np.bool_]
) -> tuple[float, float]:
    step = max(1, math.isqrt(stored.size // _SAMPLED_PIXELS))
    sample = stored[::step, ::step].ravel()
    image = sample[~padding[sample]]
    low, high = np.percentile(values[image if image.size else sample], _PERCENTILES)
    return float(low), float(high)


@dataclass(frozen=True)
class Lut:
    """A lookup table of PS3.3 C.11.1.1.1: `entries` from the value `first` on."""

    entries: Values
    first: int
    full_scale: float

    def apply(self, values: Values) -> Values:
        """The entries for `values`; those outside take the first or the last."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        found: Values = self.entries[index.astype(np.intp)]
        return found


def read_lut(item: Dataset, dataset: Dataset) -> Lut | None:
    """The table in a Modality or VOI LUT item, or None where it cannot be used."""
    # Values of the wrong type or number raise anything; such a LUT is not used.
    try:
        count, first, bits = (int(value) for value in item.LUTDescriptor)
        little_endian = dataset.original_encoding[1] is not False
        entries = _lut_data(item, (count & 0xFFFF) or 65536, bits, little_endian)
    except Exception:
        return None
    if entries is None or not 1 <= bits <= 16:
        return None
    signed = attributes.whole(dataset, "PixelRepresentation") == 1
    if signed and first > 32767:
        first -= 65536
    return Lut(entries.astype(np.float64), first, float(2**bits - 1))


def _lut_data(
    item: Dataset, count: int, bits: int, little_endian: bool
) -> NDArray[np.generic] | None:
    data: Any = item.LUTData
    if isinstance(data, bytes):
        order = "<" if little_endian else ">"
        # PS3.3 C.11.1.1.1: 8-bit entries may come packed, two in a word.
        packed = bits <= 8 and len(data) in (count, count + 1)
        data = np.frombuffer(data, np.uint8 if packed else np.dtype(f"{order}u2"))
    entries = np.atleast_1d(np.asarray(data))[:count]
    return entries if len(entries) == count else None


@dataclass(frozen=True)
class _Window:
    center: float
    width: float
    function: str

    @property
    def valid(self) -> bool:
        finite = math.isfinite(self.center) and math.isfinite(self.width)
        lowest = 1 if self.function == "LINEAR" else 0
        wide = self.width >= 1 if lowest else self.width > 0
        return finite and wide

    def apply(self, values: Values) -> Values:
        """PS3.3 C.11.2.1.2 and C.11.2.1.3, with an output range of [0, 1]."""
        if self.function == "SIGMOID":
            slope = -4 * (values - self.center) / self.width
            return 1 / (1 + np.exp(np.clip(slope, -700, 700)))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.center) / self.width + 0.5, 0, 1)
        # A window of width 1 is a step at its center: every slope shows it as one.
        width = max(self.width - 1, 1e-9)
        return np.clip((values - (self.center - 0.5)) / width + 0.5, 0, 1)


def _window(dataset: Dataset) -> _Window | None:
    """The first valid one of the alternatives in Window Center and Window Width."""
    said = attributes.code(dataset, "VOILUTFunction") or "LINEAR"
    known = said in ("LINEAR", "LINEAR_EXACT", "SIGMOID")
    centers = attributes.numbers(dataset, "WindowCenter")
    widths = attributes.numbers(dataset, "WindowWidth")
    windows = (
        _Window(center, width, said if known else "LINEAR")
        for center, width in zip(centers, widths, strict=False)
    )
    return next((window for window in windows if window.valid), None)
