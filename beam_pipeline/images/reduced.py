"""Pixel Data at a fraction of their size: only what the model can see is decoded.

A wavelet codestream keeps its resolution levels apart, and a block of a JPEG its
frequencies: the finest cost most of the time, and a model that looks at 224 × 224 never
sees them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from pydicom import uid

from beam_pipeline.images import codecs, codestream
from beam_pipeline.images.codecs import Layout, Stored
from beam_pipeline.images.codestream import Wavelet
from beam_pipeline.images.picture import JPEG_HALVINGS, Reduction


@dataclass(frozen=True)
class Reduced:
    """Stored values at a fraction of their size.

    Attributes:
        values: as `codecs.decode` gives them, of the shape of `reduction`.
        reduction: how they came about.
        signed: whether they were negative where they are bit patterns of such.
    """

    values: Stored
    reduction: Reduction
    signed: bool = False


def decode(pixel_data: bytes, layout: Layout, halvings: int) -> Reduced | None:
    """The stored values of the first frame, halved at most `halvings` times.

    None where this frame can be had at full size alone: its transfer syntax has no
    resolution levels, it has several samples a pixel, or its decoder refuses.

    Raises:
        Unreadable: as `codecs.decode` does.
    """
    decoder = DECODERS.get(layout.transfer_syntax_uid)
    if decoder is None or halvings < 1 or layout.samples_per_pixel != 1:
        return None
    frame = codecs.frame(pixel_data, layout)
    try:
        reduced = decoder(frame, layout, halvings)
    except MemoryError:
        raise
    # What is wrong with a frame is said by who decodes the whole of it.
    except Exception:
        return None
    if reduced is None or reduced.values.itemsize * 8 > layout.bits_allocated:
        return None
    return reduced


def _jpeg2k(frame: bytes, layout: Layout, halvings: int) -> Reduced | None:
    wavelet = codestream.wavelet(frame)
    count = _possible(wavelet, layout, halvings)
    if count < 1:
        return None
    with Image.open(io.BytesIO(frame), formats=("JPEG2000",)) as image:
        _reduce(image, count)
        values = np.asarray(image)
    # Pillow makes them unsigned and moves them up to 8 or 16 bits.
    values = values >> (8 * values.itemsize - wavelet.precision)
    if wavelet.signed:
        lowest = 2 ** (wavelet.precision - 1)
        values = (values.astype(np.int32) - lowest).astype(f"i{values.itemsize}")
    return _low_pass(values, layout, wavelet, count)


def _reduce(image: ImageFile, halvings: int) -> None:
    """Have Pillow decode `image` so many resolution levels below its own.

    Pillow has a property for it, which rounds odd sizes down where the standard and
    OpenJPEG round up (ISO/IEC 15444-1 B.5), and then refuses the codestream.
    """
    columns, rows = (-(-size // 2**halvings) for size in image.size)
    (tile,) = image.tile
    codec, _, *rest = cast(tuple[Any, ...], tile.args)
    image._size = (columns, rows)
    image.tile = [
        tile._replace(extents=(0, 0, columns, rows), args=(codec, halvings, *rest))
    ]


def _htj2k(frame: bytes, layout: Layout, halvings: int) -> Reduced | None:
    wavelet = codestream.wavelet(frame)
    count = _possible(wavelet, layout, halvings)
    if count < 1:
        return None
    values = imagecodecs.htj2k_decode(frame, skipres=count)
    # What a filter takes below 0 comes out as the largest numbers there are: of signed
    # values, or of those that reach nearly as high, it cannot be told any more.
    if wavelet.signed or layout.bits_stored > 8 * values.itemsize - 2:
        return None
    highest = np.iinfo(values.dtype).max // 2
    values = np.where(values > highest, 0, values)
    return _low_pass(values, layout, wavelet, count)


def _possible(wavelet: Wavelet, layout: Layout, halvings: int) -> int:
    count = min(halvings, wavelet.levels)
    # PS3.5 8.2.4 wants them equal. In the bits beyond may be an overlay, and the mean
    # of one and its neighbours would be taken for a shade.
    if wavelet.precision > layout.bits_stored:
        return 0
    # Of 256 values the half that an odd number of halvings adds could be seen.
    few = wavelet.reversible and wavelet.precision <= 8
    return count // 2 * 2 if few else count


def _low_pass(
    values: NDArray[Any], layout: Layout, wavelet: Wavelet, halvings: int
) -> Reduced | None:
    reduction = Reduction(
        rows=layout.rows,
        columns=layout.columns,
        halvings=halvings,
        # A sample lies on the first of the pixels that it stands for, and not in their
        # middle: ISO/IEC 15444-1 F.3.1.
        offset=(1 - 0.5**halvings) / 2,
        # The 5-3 filter is 3/4 + cos ω / 2 - cos 2ω / 4; the 9-7 is flat for longer.
        lift=0.25 if wavelet.reversible else 0.0,
    )
    if values.shape != reduction.shape:
        return None
    lowest = np.iinfo(values.dtype).min
    # At an edge a low-pass filter goes beyond the values on both sides of it.
    values = codecs.clipped(values, layout.bits_stored)
    if wavelet.reversible:
        # Its steps round so that each halving adds a half: 15444-1 F.4.8.1.
        values = np.maximum(values, lowest + halvings // 2) - halvings // 2
    return Reduced(codecs.patterns(values), reduction, wavelet.signed)


def _jpeg(frame: bytes, layout: Layout, halvings: int) -> Reduced | None:
    if not codestream.has_blocks(frame):
        return None
    count = min(halvings, JPEG_HALVINGS)
    reduction = Reduction(rows=layout.rows, columns=layout.columns, halvings=count)
    with Image.open(io.BytesIO(frame), formats=("JPEG",)) as image:
        if image.mode != "L":
            return None
        image.draft("L", (layout.columns >> count, layout.rows >> count))
        values = np.asarray(image)
    return Reduced(values, reduction) if values.shape == reduction.shape else None


Decoder = Callable[[bytes, Layout, int], Reduced | None]

DECODERS: dict[str, Decoder] = {
    uid.JPEGBaseline8Bit: _jpeg,
    uid.JPEG2000Lossless: _jpeg2k,
    uid.JPEG2000: _jpeg2k,
    uid.HTJ2KLossless: _htj2k,
    uid.HTJ2KLosslessRPCL: _htj2k,
    uid.HTJ2K: _htj2k,
}
