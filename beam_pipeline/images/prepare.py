"""The one preprocessing, in training and serving: 8-bit picture → model input."""

from __future__ import annotations

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
    height, width = preparation.height, preparation.width
    if preparation.resize == "stretch":
        return _resize(pixels, height, width)[..., np.newaxis]
    tall = pixels.shape[0] * pixel_aspect
    scale = min(height / tall, width / pixels.shape[1])
    inner_height = max(1, round(tall * scale))
    inner_width = max(1, round(pixels.shape[1] * scale))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    padded = np.zeros((height, width, 1), np.uint8)
    padded[top : top + inner_height, left : left + inner_width, 0] = _resize(
        pixels, inner_height, inner_width
    )
    return padded


def _resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    resized = Image.fromarray(pixels).resize(
        (width, height), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
    return np.asarray(resized)
