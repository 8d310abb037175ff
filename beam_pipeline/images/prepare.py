"""The one preprocessing, in training and serving: 8-bit picture → model input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beam_pipeline.manifest import Preparation


def prepare(
    pixels: NDArray[np.uint8], preparation: Preparation, pixel_aspect: float = 1.0
) -> NDArray[np.uint8]:
    """The model input, uint8 (height, width, 1), from a uint8 (rows, columns) picture.

    `stretch` ignores the aspect ratio; `pad` keeps that of the body, whose pixels are
    `pixel_aspect` times as high as wide, and fills with black, centred.
    Bilinear with antialiasing, after a box reduction to no less than twice the target.
    """
    place = placed(pixels.shape, preparation, pixel_aspect)
    prepared = np.zeros((preparation.height, preparation.width, 1), np.uint8)
    height, width = place.height, place.width
    prepared[place.slices] = _resize(pixels, height, width)[..., np.newaxis]
    return prepared


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
    shape: tuple[int, ...], preparation: Preparation, pixel_aspect: float = 1.0
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


def _resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    resized = Image.fromarray(pixels).resize(
        (width, height), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
    return np.asarray(resized)
