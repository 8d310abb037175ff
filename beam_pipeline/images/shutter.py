"""The display shutter: where on the detector the patient is, PS3.3 C.7.6.11."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from beam_pipeline.images import attributes

KEYWORDS = (
    "ShutterShape",
    "ShutterLeftVerticalEdge",
    "ShutterRightVerticalEdge",
    "ShutterUpperHorizontalEdge",
    "ShutterLowerHorizontalEdge",
    "CenterOfCircularShutter",
    "RadiusOfCircularShutter",
    "VerticesOfThePolygonalShutter",
)
_EDGES = KEYWORDS[1:5]


def opening(
    dataset: Dataset, shape: tuple[int, int], step: int
) -> NDArray[np.bool_] | None:
    """Which pixels of every `step`-th row and column no shutter covers.

    bool, as large as `stored[::step, ::step]`; None where there is no shutter, or one
    that leaves nothing open. Several shapes cover together.
    """
    shapes = attributes.texts(dataset, "ShutterShape")
    rows, columns = np.ogrid[1 : shape[0] + 1 : step, 1 : shape[1] + 1 : step]
    is_open = np.ones((rows.size, columns.size), bool)
    for name in shapes:
        if name == "RECTANGULAR":
            is_open &= _rectangle(dataset, rows, columns)
        elif name == "CIRCULAR":
            is_open &= _circle(dataset, rows, columns)
        elif name == "POLYGONAL":
            is_open &= _polygon(dataset, shape)[::step, ::step]
    return is_open if shapes and is_open.any() and not is_open.all() else None


def _rectangle(
    dataset: Dataset, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.bool_]:
    edges = [attributes.number(dataset, keyword) for keyword in _EDGES]
    if None in edges:
        return np.ones((rows.size, columns.size), bool)
    left, right, upper, lower = np.array(edges, np.float64)
    inside: NDArray[np.bool_] = (
        (columns > left) & (columns < right) & (rows > upper) & (rows < lower)
    )
    return inside


def _circle(
    dataset: Dataset, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.bool_]:
    center = attributes.numbers(dataset, "CenterOfCircularShutter")
    radius = attributes.number(dataset, "RadiusOfCircularShutter")
    if len(center) != 2 or not np.isfinite([*center, radius or np.nan]).all():
        return np.ones((rows.size, columns.size), bool)
    distance = np.hypot(rows - center[0], columns - center[1])
    inside: NDArray[np.bool_] = distance <= radius
    return inside


def _polygon(dataset: Dataset, shape: tuple[int, int]) -> NDArray[np.bool_]:
    points = attributes.numbers(dataset, "VerticesOfThePolygonalShutter")
    if len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        return np.ones(shape, bool)
    mask = Image.new("1", (shape[1], shape[0]))
    pairs = np.reshape(points, (-1, 2)) - 1
    corners = [(column, row) for row, column in pairs.tolist()]
    ImageDraw.Draw(mask).polygon(corners, fill=1)
    return np.asarray(mask)
