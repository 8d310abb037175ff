"""The one preprocessing, in training and serving: 8-bit picture → model input."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beam_pipeline.images.picture import Reduction
from beam_pipeline.manifest import Preparation

# An image that is halved while it is decoded has so many times the model's pixels left
# in each direction: below that, scores begin to differ. docs/performance.md
OVERSAMPLING = 1.4
# Bilinear with antialiasing works on what is so many times the target, and the mean of
# a box of pixels brings it there.
_GAP = 2.0


def prepare(
    pixels: NDArray[np.uint8],
    preparation: Preparation,
    pixel_aspect: float = 1.0,
    reduction: Reduction | None = None,
) -> NDArray[np.uint8]:
    """The model input, uint8 (height, width, 1), from a uint8 (rows, columns) picture.

    `stretch` ignores the aspect ratio; `pad` keeps that of the body, whose pixels are
    `pixel_aspect` times as high as wide, and fills with black, centred.
    Bilinear with antialiasing, after a box reduction to no less than twice the target.
    A picture that was decoded with a `reduction` becomes what the whole would become.
    """
    whole = (reduction.rows, reduction.columns) if reduction else pixels.shape
    place = placed(whole, preparation, pixel_aspect)
    if reduction is None:
        resized = _resize(Image.fromarray(pixels), place)
    else:
        flat = Image.fromarray(_flattened(pixels, place, reduction))
        resized = np.rint(_resize(flat, place, reduction.box)).clip(0, 255)
    prepared = np.zeros((preparation.height, preparation.width, 1), np.uint8)
    prepared[place.slices] = resized[..., np.newaxis]
    return prepared


def halvings(
    shape: tuple[int, int], preparation: Preparation, pixel_aspect: float = 1.0
) -> int:
    """How often an image of that shape, (rows, columns), may be halved before."""
    place = placed(shape, preparation, pixel_aspect)
    excess = min(shape[0] / place.height, shape[1] / place.width) / OVERSAMPLING
    possible = math.floor(math.log2(excess)) if excess > 1 else 0
    return min(possible, preparation.max_reduction)


@dataclass(frozen=True)
class Place:
    """Where in the model input the picture lies; around it is black."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


def placed(
    shape: tuple[float, ...], preparation: Preparation, pixel_aspect: float = 1.0
) -> Place:
    """Where `prepare` puts a picture of that shape, (rows, columns)."""
    height, width = preparation.height, preparation.width
    if preparation.resize == "stretch":
        return Place(0, 0, height, width)
    tall = shape[0] * pixel_aspect
    scale = min(height / tall, width / shape[1])
    inner_height = max(1, round(tall * scale))
    inner_width = max(1, round(shape[1] * scale))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    return Place(top, left, inner_height, inner_width)


def _resize(
    image: Image.Image,
    place: Place,
    box: tuple[float, float, float, float] | None = None,
) -> NDArray[np.generic]:
    size = (place.width, place.height)
    bilinear = Image.Resampling.BILINEAR
    return np.asarray(image.resize(size, bilinear, box, reducing_gap=_GAP))


def _flattened(
    pixels: NDArray[np.uint8], place: Place, reduction: Reduction
) -> NDArray[np.float32]:
    """`pixels` with the low frequencies that the whole would have after a box.

    float32, and a row and a column more than before: where the image begins a little
    late, it ends a little behind the last pixel.

    A box of n pixels takes a low frequency ω, in radians a pixel, times
    1 - (n² - 1) ω² / 24. With weights w, 1 - 2w, w the neighbours take it times
    1 - w ω².
    """
    flat = np.pad(pixels.astype(np.float32), ((1, 2), (1, 2)), mode="edge")
    scale = 2**reduction.halvings
    shape = (reduction.rows, reduction.columns)
    weights = []
    for whole, target in zip(shape, (place.height, place.width), strict=True):
        before, after = _boxed(whole, target), _boxed(whole / scale, target)
        lifted = 8 * reduction.lift * (scale**2 - 1)
        excess = before**2 - 1 + lifted - (after**2 - 1) * scale**2
        weights.append(excess / (24 * scale**2))
    down, across = weights
    flat = flat[1:-1] + np.float32(down) * (flat[:-2] + flat[2:] - 2 * flat[1:-1])
    middle = flat[:, 1:-1]
    return middle + np.float32(across) * (flat[:, :-2] + flat[:, 2:] - 2 * middle)


def _boxed(size: float, target: int) -> int:
    """Of how many pixels Pillow takes the mean before it interpolates."""
    return max(1, int(size / target / _GAP))
