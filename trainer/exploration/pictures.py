"""Figures made of pictures: means, differences and examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainer.exploration.figures import WIDE
from trainer.exploration.survey import Survey
from trainer.figure_style import light

# Of a sheet of pictures: how many stand in a row, and its height.
_ACROSS = 6
_SHEET_ROW = 1.98


@light
def averages(survey: Survey, chosen: Sequence[str]) -> Figure:
    """The mean picture of each class, and where the classes differ, in deviations."""
    differences = chosen[1:] if len(survey.classes) == 2 else chosen
    if len(survey.classes) < 2:
        differences = ()
    panels = len(chosen) + len(differences)
    columns = min(4, panels)
    rows = -(-panels // columns)
    figure = Figure((2.25 * columns + 0.9, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, name in zip(grid, chosen, strict=False):
        average = survey.averages[name]
        axes.imshow(average.mean, cmap="gray", vmin=0, vmax=255)
        _title(axes, f"{name}\n(n = {average.count:,})")
    for axes, name in zip(grid[len(chosen) :], differences, strict=False):
        shown = axes.imshow(effect(survey, name), cmap="RdBu_r", vmin=-1, vmax=1)
        _title(axes, f"{name}\nminus the others")
    if differences:
        figure.colorbar(
            shown, ax=grid.tolist(), shrink=0.7, label="difference (SD of a pixel)"
        )
    return figure


def effect(survey: Survey, name: str) -> NDArray[np.float64]:
    """Mean of the class minus mean of the other classes, over the pooled deviation.

    Cohen's d of each pixel: float64, (224, 224).
    """
    one = survey.averages[name]
    others = [average for key, average in survey.averages.items() if key != name]
    count = max(1, sum(average.count for average in others))
    mean = sum(a.count * a.mean for a in others) / count
    second = sum(a.count * (a.variance + a.mean**2) for a in others) / count
    pooled = np.sqrt((one.variance + second - mean**2) / 2)
    difference = one.mean - mean
    return np.divide(difference, pooled, out=np.zeros_like(pooled), where=pooled > 0)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=9, loc="center", fontweight="normal")


@light
def contact_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[str, NDArray[np.uint8]]]]],
) -> Figure:
    """Rows of up to six pictures with captions, each row under its own title."""
    # Placed by hand: a layout engine takes seconds for so many axes.
    height = _SHEET_ROW * len(rows)
    figure = Figure((WIDE, height))
    side = 1 / _ACROSS
    for number, (title, pictures) in enumerate(rows):
        top = 1 - number / len(rows)
        figure.text(0.005, top - 0.04 / height, title, va="top", fontweight="bold")
        for column, (caption, picture) in enumerate(pictures):
            bottom = top - (_SHEET_ROW - 0.12) / height
            axes = figure.add_axes(
                (column * side, bottom, side * 0.96, 0.96 * WIDE * side / height)
            )
            axes.set_axis_off()
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes.set_title(
                caption, fontsize=6.5, loc="center", fontweight="normal", pad=3
            )
    return figure
