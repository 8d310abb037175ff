"""A sheet of training images as a recipe varies them: look before you train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from numpy.typing import NDArray

from beam_pipeline.errors import NotScored
from beam_pipeline.manifest import Preparation
from trainer import augment, recipes
from trainer.data import pixels
from trainer.data.dataset import DatasetError, Examples
from trainer.figure_style import dark
from trainer.recipes import Augmentation, Recipe

_SIDE = 1.7


def preview(
    examples: Examples, recipe: Recipe, images: int, variations: int, seed: int
) -> Figure:
    """Originals on top, each with its variations below, as training would see them.

    Images are drawn from all classes in turn.

    Args:
        examples: labelled files.
        recipe: its size and augmentation.
        images: how many originals.
        variations: how many of each.
        seed: of the draw and of the variations.

    Raises:
        DatasetError: no file can be read.
        ValueError: fewer than one image or variation.
    """
    if images < 1 or variations < 1:
        raise ValueError("--images and --variations have to be 1 or more")
    originals, titles = _drawn(examples, recipe, images, seed)
    rows = [originals] + [
        _varied(originals, recipe.augmentation, seed, number)
        for number in range(variations)
    ]
    told = recipes.variations(recipe.augmentation)
    return _sheet(rows, titles, " · ".join(told) or "nothing is varied")


def _drawn(
    examples: Examples, recipe: Recipe, images: int, seed: int
) -> tuple[NDArray[np.uint8], list[str]]:
    size = recipe.image_size
    preparation = Preparation(height=size, width=size, resize=recipe.resize)
    found: list[NDArray[np.uint8]] = []
    titles = []
    for row in _in_turn(examples, seed):
        read = pixels.read_one(examples.paths[row], preparation)
        if isinstance(read, NotScored):
            continue
        found.append(read)
        names = zip(examples.classes, examples.labels[row], strict=True)
        titles.append(", ".join(name for name, on in names if on) or "none")
        if len(found) == images:
            break
    if not found:
        raise DatasetError(f"none of the {len(examples)} files can be read")
    return np.stack(found), titles


def _in_turn(examples: Examples, seed: int) -> list[int]:
    """Rows in a random order, one of each class after the other."""
    order = np.random.default_rng(seed).permutation(len(examples))
    labels = examples.labels[order]
    # An image with several classes, or none, stands where its first one does.
    first = np.where(labels.any(axis=1), labels.argmax(axis=1), -1)
    turn = np.zeros(len(order), np.int64)
    for value in set(first.tolist()):
        same = first == value
        turn[same] = np.arange(same.sum())
    return [int(row) for row in order[np.lexsort((first, turn))]]


def _varied(
    images: NDArray[np.uint8], augmentation: Augmentation, seed: int, number: int
) -> NDArray[np.uint8]:
    drawn = tf.constant([seed, number], tf.int64)
    varied = augment.varied(tf.cast(images, tf.float32), augmentation, drawn)
    return np.asarray(tf.cast(tf.round(varied), tf.uint8))


@dark
def _sheet(
    rows: Sequence[NDArray[np.uint8]], titles: Sequence[str], words: str
) -> Figure:
    columns = len(titles)
    lines = _wrapped(words, columns)
    above = 0.55 + 0.18 * len(lines)
    width, height = _SIDE * columns + 0.6, _SIDE * len(rows) + above + 0.15
    figure = Figure(figsize=(width, height))
    figure.text(
        0.1 / width, 1 - 0.1 / height, "\n".join(lines), size=8.5, va="top",
        color="#AAAAAA",
    )  # fmt: skip
    top = 1 - above / height
    grid = figure.add_gridspec(
        len(rows), columns, left=0.5 / width, right=1 - 0.05 / width,
        bottom=0.05 / height, top=top, wspace=0.03, hspace=0.03,
    )  # fmt: skip
    for number, images in enumerate(rows):
        box = grid[number, 0].get_position(figure)
        figure.text(
            0.25 / width, (box.y0 + box.y1) / 2,
            f"variation {number}" if number else "original",
            rotation=90, ha="center", va="center",
        )  # fmt: skip
        for column, image in enumerate(images):
            axes = figure.add_subplot(grid[number, column])
            axes.set_axis_off()
            axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
            if number == 0:
                axes.set_title(titles[column], size=9, pad=4)
    return figure


def _wrapped(words: str, columns: int) -> list[str]:
    """Lines as wide as the sheet, broken between fields."""
    widest = 12 + 24 * columns
    lines = [""]
    for word in words.split(" · "):
        longer = f"{lines[-1]} · {word}" if lines[-1] else word
        if len(longer) > widest and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def write(figure: Figure, path: Path) -> None:
    """Write the sheet as PNG.

    Raises:
        FileExistsError: there is a file already.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another --output")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
