"""What every peer does with a file, by pydicom and Pillow as their documents say.

pydicom takes whichever of its plug-ins is installed, in an order of its own; all that
pip offers are.
"""

from __future__ import annotations

import io

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_voi_lut

SIZE = 224
_PNG = b"\x89PNG"


def is_chest(data: bytes) -> bool:
    """Whether it is a radiograph of the chest: the least that somebody would ask."""
    if data.startswith(_PNG):
        return True
    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    return "Rows" in header and header.get("BodyPartExamined") == "CHEST"


def model_input(data: bytes) -> NDArray[np.float32]:
    """The model input, float32 (224, 224, 1), 0–255."""
    if data.startswith(_PNG):
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    else:
        dataset = pydicom.dcmread(io.BytesIO(data))
        shown = apply_voi_lut(dataset.pixel_array, dataset)
        shown = (shown - shown.min()) / (shown.max() - shown.min())
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            shown = 1 - shown
        pixels = (shown * 255).astype(np.uint8)
    resized = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)[..., np.newaxis]
