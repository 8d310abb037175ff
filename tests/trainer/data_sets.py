"""Small data sets with something wrong in them, and what is found there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from trainer.data import dataset
from trainer.exploration.survey import Survey, survey


def picture(seed: int, rows: int = 90, columns: int = 80) -> Image.Image:
    """A smooth picture unlike that of any other seed."""
    noise = np.random.default_rng(seed).normal(size=(rows, columns))
    smooth = sum(s * gaussian_filter(noise, s) for s in (2, 5, 12))
    scaled = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    # Air is black, at the left and at the right.
    body = np.sin(np.linspace(0.1, np.pi - 0.1, columns)) ** 0.5
    return Image.fromarray((20 + 200 * scaled * body).astype(np.uint8))


def write(folder: Path, names: dict[str, Image.Image | bytes]) -> Path:
    """Files by name: a picture, or bytes as they are."""
    for name, content in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path)
    return folder


def two_classes(count: int = 3, **size: int) -> dict[str, Image.Image | bytes]:
    """`count` different pictures of as many patients in each of two classes."""
    return {
        f"{name}/person{number}_{index}.png": picture(100 * index + number, **size)
        for index, name in enumerate(("NORMAL", "PNEUMONIA"))
        for number in range(count)
    }


def surveyed(data: Path) -> Survey:
    """All files of a folder or a table, read."""
    return survey(dataset.listed(data, dataset.Naming()))
