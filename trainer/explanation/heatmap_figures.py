"""Figures of heatmaps: the plain radiograph first, and the same with the map on it.

On black, as radiographs are read. The colour map is Matplotlib's inferno, whose
lightness rises evenly; what is low is transparent, so that anatomy can be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainer.explanation.sanity import Sanity
from trainer.figure_style import dark

_QUIET = "#AAAAAA"
WARNING = "Where the score comes from, not where disease is."
SCALE = "share of this image's highest value"
# A line around what has half of the highest value or more.
_LINE = 0.5
_MOST_OPAQUE = 0.6
# Inches of one image on a page of many.
_SIDE = 2.1


def _colours() -> ListedColormap:
    """Inferno without its black end, from clear to mostly opaque."""
    colours = mpl.colormaps["inferno"](np.linspace(0.25, 1, 256))
    # Below a tenth there is nothing to see; then opacity rises to half, and flattens.
    share = np.linspace(0, 1, 256)
    colours[:, 3] = _MOST_OPAQUE * np.clip((share - 0.1) / 0.5, 0, 1)
    return ListedColormap(colours)


COLOURS = _colours()


@dataclass(frozen=True)
class Panel:
    """A picture and what lies on it.

    Attributes:
        picture: uint8, (rows, columns).
        heatmap: float32, (rows, columns), 0 to 1.
    """

    picture: NDArray[np.uint8]
    heatmap: NDArray[np.float32]


@dark
def one(panel: Panel, lines: Sequence[str], note: str = "") -> Figure:
    """A radiograph beside itself with the map on it, the legend, and what is said."""
    rows, columns = panel.picture.shape
    width = 5.0
    height = min(8.0, width * rows / columns)
    figure = Figure(figsize=(2 * width + 0.9, height + 1.15))
    bottom, top = 1.05 / (height + 1.15), 1 - 0.1 / (height + 1.15)
    grid = figure.add_gridspec(
        1,
        3,
        width_ratios=[1, 1, 0.03],
        wspace=0.02,
        left=0.01,
        right=0.93,
        bottom=bottom,
        top=top,
    )
    plain, covered, legend = (figure.add_subplot(grid[n]) for n in range(3))
    _show(plain, panel, with_map=False)
    _show(covered, panel, with_map=True)
    _legend(figure, legend)
    first, *rest = lines
    line = 1 / (height + 1.15)
    figure.text(0.012, 0.76 * line, first, size=13, weight="bold", va="center")
    figure.text(0.012, 0.5 * line, "\n".join(rest), size=11, va="center")
    said = f"{WARNING} {note}".strip()
    figure.text(0.012, 0.22 * line, said, size=9.5, color=_QUIET, va="center")
    return figure


def _show(axes: Axes, panel: Panel, *, with_map: bool) -> None:
    axes.set_axis_off()
    axes.imshow(panel.picture, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    if not with_map:
        return
    if not panel.heatmap.any():
        axes.text(
            0.5, 0.03, "empty map", transform=axes.transAxes, ha="center", size=9,
            bbox={"facecolor": "black", "edgecolor": "none", "pad": 2},
        )  # fmt: skip
        return
    axes.imshow(panel.heatmap, cmap=COLOURS, vmin=0, vmax=1, interpolation="bilinear")
    if panel.heatmap.min() < _LINE < panel.heatmap.max():
        axes.contour(panel.heatmap, [_LINE], colors="white", linewidths=0.9)


def _legend(figure: Figure, axes: Axes) -> None:
    # On the grey of a radiograph's middle, so that it looks as it does there.
    axes.imshow(
        np.full((2, 2), 0.35), cmap="gray", vmin=0, vmax=1, extent=(0, 1, 0, 1),
        aspect="auto",
    )  # fmt: skip
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), COLOURS), cax=axes, ticks=[0, _LINE, 1]
    )
    bar.set_label(SCALE, size=9)
    bar.outline.set_visible(False)
    axes.tick_params(length=0, labelsize=9)
    axes.axhline(_LINE, color="white", linewidth=0.9)


@dark
def page(kinds: Mapping[str, Sequence[tuple[Panel, str]]], class_name: str) -> Figure:
    """Examples of every kind, each plain above and with the map below.

    Args:
        kinds: for each kind, such as `true positives`, its examples: a panel, and the
            probability of the class as text.
        class_name: whose map it is.
    """
    columns = max(1, *(len(found) for found in kinds.values()))
    width, height = _SIDE * columns + 0.6, 2 * len(kinds) * _SIDE * 1.12 + 0.9
    figure = Figure(figsize=(width, height))
    figure.text(
        0.1 / width, 1 - 0.25 / height, f"Heatmaps of {class_name}", size=14,
        weight="bold", va="center",
    )  # fmt: skip
    said = f"{WARNING}\nAbove each image its probability. Colour: {SCALE}."
    figure.text(0.1 / width, 1 - 0.6 / height, said, size=9, color=_QUIET, va="center")
    blocks = figure.add_gridspec(
        len(kinds), 1, left=0.5 / width, right=1 - 0.05 / width, bottom=0.1 / height,
        top=1 - 1.0 / height, hspace=0.1,
    )  # fmt: skip
    for number, (kind, found) in enumerate(kinds.items()):
        block = blocks[number]
        grid = block.subgridspec(2, columns, hspace=0.03, wspace=0.03)
        box = block.get_position(figure)
        figure.text(
            0.25 / width, (box.y0 + box.y1) / 2, kind if found else f"no {kind}",
            rotation=90, ha="center", va="center", size=11,
        )  # fmt: skip
        for column, (panel, title) in enumerate(found):
            plain, covered = (figure.add_subplot(grid[row, column]) for row in range(2))
            _show(plain, panel, with_map=False)
            _show(covered, panel, with_map=True)
            plain.set_title(title, size=9, pad=3)
    return figure


@dark
def sanity(checked: Sanity, pictures: NDArray[np.uint8], digits: int = 2) -> Figure:
    """Maps of some images while weights become random, from left to right.

    Args:
        checked: the cascade.
        pictures: uint8, (images, rows, columns), of the maps that are shown.
        digits: of the correlation.
    """
    steps = checked.steps
    width, height = 1.55 * len(steps) + 0.1, 1.55 * len(pictures) + 1.5
    figure = Figure(figsize=(width, height))
    verdict = "the maps depend on them" if checked.passed else "the maps stay the same"
    figure.text(
        0.1 / width, 1 - 0.25 / height, f"Weights made random: {verdict}", size=14,
        weight="bold", va="center",
    )  # fmt: skip
    said = "From the head downwards; below: the rank correlation with the maps at left."
    figure.text(0.1 / width, 1 - 0.55 / height, said, size=9, color=_QUIET, va="center")
    grid = figure.add_gridspec(
        len(pictures), len(steps), left=0.05 / width, right=1 - 0.05 / width,
        bottom=0.3 / height, top=1 - 1.05 / height, wspace=0.03, hspace=0.03,
    )  # fmt: skip
    for column, step in enumerate(steps):
        for row, picture in enumerate(pictures):
            axes = figure.add_subplot(grid[row, column])
            _show(axes, Panel(picture, step.maps[row]), with_map=True)
            if row == 0:
                title = f"… {step.layer}" if step.layer else "trained"
                axes.set_title(title, size=8, pad=4)
        middle = (column + 0.5) / len(steps)
        text = f"{step.correlation:.{digits}f}".replace("-", "−")
        figure.text(middle, 0.15 / height, text, ha="center", va="center", size=10)
    return figure
