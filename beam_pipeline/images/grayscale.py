"""The DICOM grayscale pipeline: stored value → 8-bit grey, as one lookup table.

Modality LUT, VOI LUT and polarity (PS3.4 N.2) act on each pixel by itself, so the whole
chain is computed once for every value that a pixel can store, exactly and in float64,
and the image is touched once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from beam_pipeline.errors import Failure, Flag, Rejected, Rejection, Unreadable
from beam_pipeline.images import attributes, shutter
from beam_pipeline.images.codecs import Stored
from beam_pipeline.images.picture import Picture, Step, bands, looked_up, measured
from beam_pipeline.images.reduced import Reduced
from beam_pipeline.images.stored import (
    Patterns,
    Values,
    has_overlays,
    is_plain,
    stored_values,
)

# Percentiles need no more pixels than this; the rest of a radiograph says the same.
_SAMPLED_PIXELS = 250_000
_PERCENTILES = (0.5, 99.5)
# In grey levels: see docs/performance.md.
_CURVATURE = 0.25
# VOI LUT Function (0028,1056), PS3.3 C.11.2.1.3.
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


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


def render(stored: Stored, dataset: Dataset, voi: str = "auto") -> Picture:
    """The upright 8-bit picture of single-sample stored values.

    Args:
        stored: uint8 or uint16 bit patterns, (rows, columns).
        dataset: the attributes that say what they mean.
        voi: see `manifest.Rendering`.

    Raises:
        Rejected: CONSTANT_IMAGE.
        Unreadable: BAD_RESCALE, or UNSUPPORTED_PIXELS where Bits Stored makes no sense.
    """
    return _picture(_grey(stored, dataset, voi), stored)


def render_reduced(reduced: Reduced, dataset: Dataset, voi: str) -> Picture | None:
    """The picture of stored values at a fraction of their size.

    None where they do not tell what the picture at full size would: a value that means
    padding or an overlay was mixed with its neighbours, percentiles are asked for, or
    the transformations are so far from linear where the image is that the order of the
    two matters.

    Raises:
        Rejected, Unreadable: as `render` does.
    """
    signed = attributes.whole(dataset, "PixelRepresentation") == 1
    if "PixelPaddingValue" in dataset or has_overlays(dataset):
        return None
    # The mean of 4095, which stands for -1, and 0 stands for nothing between them.
    if reduced.signed != signed:
        return None
    grey = _grey(reduced.values, dataset, voi)
    # Of means of pixels the percentiles are others, and nearer to each other.
    if grey.voi == "percentile" or Flag.UNUSED_BITS_SET in grey.flags:
        return None
    if _curvature(grey, reduced.values, dataset) > _CURVATURE:
        return None
    return replace(_picture(grey, reduced.values), reduction=reduced.reduction)


def _picture(grey: _Grey, stored: Stored) -> Picture:
    table = np.rint(255 * grey.values).astype(np.uint8)
    shown = measured("scaled to 8 bits", table[grey.present])
    return Picture(looked_up(table, stored), grey.voi, grey.flags, (*grey.steps, shown))


def _curvature(grey: _Grey, stored: Stored, dataset: Dataset) -> float:
    """By how many of 255 greys it matters which comes first, LUT or reduction.

    Measured where it can be: on the next reduction, of four neighbours to their mean.
    """
    half = grey.values.size // 2
    rows, columns = (size // 2 * 2 for size in stored.shape)
    neighbours = [
        stored[row:rows:2, column:columns:2].astype(np.intp)
        for row in (0, 1)
        for column in (0, 1)
    ]
    values = grey.values
    if attributes.whole(dataset, "PixelRepresentation") == 1:
        # Two's complement in the order of the numbers.
        neighbours = [each ^ half for each in neighbours]
        values = np.roll(values, half)
    first = sum(values[each] for each in neighbours) / 4
    whole, quarters = np.divmod(sum(neighbours), 4)
    following = np.minimum(whole + 1, values.size - 1)
    last = values[whole] + quarters / 4 * (values[following] - values[whole])
    return 255 * float(np.abs(first - last).mean())


def _grey(stored: Stored, dataset: Dataset, voi: str) -> _Grey:
    """What is shown of each bit pattern, in [0, 1], 0 = black."""
    present = _present(stored, dataset)
    bits = 8 * stored.dtype.itemsize
    values, odd = stored_values(dataset, bits, present)
    padding, flags = _padding(values, dataset)
    image = present[~padding[present]]
    # An image of nothing but padding has no other range to show.
    grey = _Grey(values, image if image.size else present)
    if grey.present.size == 1:
        raise Rejected(Rejection.CONSTANT_IMAGE, "every pixel has the same value")
    grey = grey.after("stored values", values, *flags, *odd)
    grey = _apply_modality(grey, dataset)
    grey = _apply_voi(grey, _CANDIDATES[voi], _Sample(stored, padding, dataset))
    if attributes.text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        # PS3.3 C.7.6.3.1.2: the minimum is white *after* VOI, so the inversion comes
        # last; Presentation LUT Shape INVERSE says the same again and is no second one.
        grey = grey.after("MONOCHROME1 inverted", 1 - grey.values)
    return replace(grey, values=np.where(padding, 0, grey.values))


def _padding(
    values: Values, dataset: Dataset
) -> tuple[NDArray[np.bool_], tuple[Flag, ...]]:
    """Which bit patterns are padding: PS3.3 C.7.5.1.1.2, before the Modality LUT."""
    value = attributes.whole(dataset, "PixelPaddingValue")
    if value is None:
        return np.zeros(values.shape, bool), ()
    limit = attributes.whole(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    padding: NDArray[np.bool_] = (values >= low) & (values <= high)
    if low < values.min() or high > values.max():
        return np.zeros(values.shape, bool), (Flag.BAD_PADDING,)
    return padding, ()


def _present(stored: Stored, dataset: Dataset) -> Patterns:
    """The bit patterns in the image, in order.

    Where no pattern has a meaning of its own, those of a sample do, with the extremes.
    """
    step = 1
    if "PixelPaddingValue" not in dataset and is_plain(dataset, int(stored.max())):
        step = max(1, math.isqrt(stored.size // _SAMPLED_PIXELS))
    found = np.zeros(2 ** (8 * stored.itemsize), bool)
    sample = stored[::step, ::step]
    for band in bands(sample):
        found[sample[band]] = True
    found[[stored.min(), stored.max()]] = True
    return np.flatnonzero(found)


def _apply_modality(grey: _Grey, dataset: Dataset) -> _Grey:
    """PS3.3 C.11.1: the Modality LUT Sequence, or Rescale Slope and Intercept."""
    flags: tuple[Flag, ...] = ()
    if "ModalityLUTSequence" in dataset:
        item = attributes.value(dataset, "ModalityLUTSequence")
        lut = read_lut(item, dataset, signed=_signed(grey.values))
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


@dataclass(frozen=True)
class _Sample:
    """What percentiles are taken of: no padding, and nothing behind a shutter."""

    stored: Stored
    padding: NDArray[np.bool_]
    dataset: Dataset

    def range(self, values: Values) -> tuple[float, float]:
        """The percentiles of the values after the Modality LUT."""
        step = max(1, math.isqrt(self.stored.size // _SAMPLED_PIXELS))
        sample = self.stored[::step, ::step]
        is_open = shutter.opening(self.dataset, self.stored.shape[:2], step)
        pixels = sample.ravel() if is_open is None else sample[is_open]
        image = pixels[~self.padding[pixels]]
        low, high = np.percentile(values[image if image.size else pixels], _PERCENTILES)
        return float(low), float(high)


@dataclass(frozen=True)
class _Shown:
    """What one VOI transformation makes of the values: float64 in [0, 1]."""

    voi: str
    name: str
    values: Values


def _apply_voi(
    grey: _Grey, candidates: tuple[_Candidate, ...], sample: _Sample
) -> _Grey:
    """PS3.3 C.11.2: the VOI LUT, else the first window, else percentiles; to [0, 1].

    One that leaves a single grey of an image that has several shows nothing, and is
    passed over like one that is malformed.
    """
    dataset = sample.dataset
    flags: tuple[Flag, ...] = ()
    for keywords, candidate, bad in candidates:
        if not any(keyword in dataset for keyword in keywords):
            continue
        shown = candidate(grey.values, dataset)
        if shown is not None and _tells(shown.values[grey.present]):
            flags += _unknown_function(dataset) if shown.voi == "window" else ()
            grey = replace(grey, voi=shown.voi)
            return grey.after(shown.name, shown.values, *flags)
        flags += (bad,)
    low, high = sample.range(grey.values)
    if not low < high:
        present = grey.values[grey.present]
        low, high = float(present.min()), float(present.max())
    scaled = np.clip((grey.values - low) / max(high - low, 1e-9), 0, 1)
    name = f"percentiles {low:g} to {high:g}"
    grey = replace(grey, voi="percentile")
    return grey.after(name, scaled, *flags, Flag.VOI_PERCENTILE)


def _tells(shown: Values) -> bool:
    """Whether values in [0, 1] are more than one of 256 greys."""
    grey = np.rint(255 * shown)
    return bool(grey.min() < grey.max())


def _voi_lut(values: Values, dataset: Dataset) -> _Shown | None:
    item = attributes.value(dataset, "VOILUTSequence")
    lut = read_lut(item, dataset, signed=_signed(values))
    if lut is None:
        return None
    shown = np.clip(lut.apply(values) / lut.full_scale, 0, 1)
    return _Shown("lut", "VOI LUT Sequence", shown)


def _windowed(values: Values, dataset: Dataset) -> _Shown | None:
    window = _window(dataset)
    if window is None:
        return None
    name = f"window {window.center:g}/{window.width:g} {window.function}"
    return _Shown("window", name, window.apply(values))


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


def _signed(values: Values) -> bool:
    """Whether what goes into a LUT can be negative, of all that a pixel can store."""
    return bool(values.min() < 0)


def read_lut(item: Any, dataset: Dataset, *, signed: bool) -> Lut | None:
    """The table in a Modality or VOI LUT item, or None where it cannot be used.

    PS3.3 C.11.1.1.1 and C.11.2.1.1: the first value mapped is signed where the input
    can be, which after a rescale is not what Pixel Representation says.
    """
    # Values of the wrong type or number raise anything; such a LUT is not used.
    try:
        count, first, bits = (int(value) for value in item.LUTDescriptor)
        little_endian = dataset.original_encoding[1] is not False
        entries = _lut_data(item, (count & 0xFFFF) or 65536, bits, little_endian)
    except MemoryError:
        raise
    except Exception:
        return None
    if entries is None or not 1 <= bits <= 16:
        return None
    # Its VR says little: implicit VR has none, and many write US whatever it is.
    first &= 0xFFFF
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
    function = attributes.text(dataset, "VOILUTFunction")
    centers = attributes.numbers(dataset, "WindowCenter")
    widths = attributes.numbers(dataset, "WindowWidth")
    if len(centers) != len(widths):
        return None
    windows = (
        _Window(center, width, function if function in _FUNCTIONS else "LINEAR")
        for center, width in zip(centers, widths, strict=True)
    )
    return next((window for window in windows if window.valid), None)


_Candidate = tuple[tuple[str, ...], Callable[[Values, Dataset], _Shown | None], Flag]
_LUT: _Candidate = (("VOILUTSequence",), _voi_lut, Flag.BAD_VOI_LUT)
_WINDOW: _Candidate = (("WindowCenter", "WindowWidth"), _windowed, Flag.BAD_WINDOW)
_CANDIDATES = {"auto": (_LUT, _WINDOW), "window": (_WINDOW,), "percentile": ()}


def _unknown_function(dataset: Dataset) -> tuple[Flag, ...]:
    function = attributes.text(dataset, "VOILUTFunction")
    known = not function or function in _FUNCTIONS
    return () if known else (Flag.VOI_FUNCTION_UNKNOWN,)
