"""Figures of a data set. Nothing here reads files, or decides anything."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from PIL import Image

from trainer.exploration import near_duplicates
from trainer.exploration.duplicates import Duplicates
from trainer.exploration.shortcuts import SUSPICIOUS, Shortcut
from trainer.exploration.survey import BINS, Survey
from trainer.figure_style import COLOURS, GREY, light, look

_MARKERS = ("o", "^", "s", "D")
# Of a PNG on the page.
_DPI = 110
WIDE = 9.0
_POINTS = 2000
_MOST_IN_A_BAR = 6
# How a part of a split is called, in its order.
PARTS = {
    "training": "training",
    "validation": "validation",
    "held_out": "held out",
    "": "not divided",
}


@light
def png(figure: Figure) -> bytes:
    """The figure as a file; in one channel if all of it is grey, which is smaller."""
    drawn, smaller = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    image = Image.open(drawn).convert("RGB")
    red, green, blue = image.split()
    is_grey = red.tobytes() == green.tobytes() == blue.tobytes()
    (red if is_grey else image).save(smaller, "PNG")
    return smaller.getvalue()


@light
def class_counts(survey: Survey) -> Figure:
    """Readable images and patients of each class; a colour for each part."""
    names = survey.classes
    figure = Figure((WIDE, 1.3 + 0.42 * len(names)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, what in zip(panels, ("Images", "Patients"), strict=True):
        left = np.zeros(len(names))
        for index, (part, shown) in enumerate(PARTS.items()):
            counts = [_number(survey, name, part, what) for name in names]
            if any(counts):
                colour = GREY if not part else COLOURS[index]
                axes.barh(names, counts, left=left, color=colour, label=shown)
                left += counts
        for height, count in enumerate(left):
            axes.annotate(
                f"{int(count):,}",
                (count, height),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_title(what)
        axes.margins(x=0.16)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panels[0].invert_yaxis()
    if any(survey.parts):
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4
        )
    return figure


def _number(survey: Survey, name: str, part: str, what: str) -> int:
    rows = survey.of(name) & (survey.parts == part)
    return (
        int(rows.sum()) if what == "Images" else len(np.unique(survey.patients[rows]))
    )


@light
def sizes(survey: Survey, chosen: Sequence[str]) -> Figure:
    """Width against height, and how the aspect ratios are spread."""
    figure = Figure((WIDE, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    random = np.random.default_rng(0)
    width = np.array([m.width or 0 for m in survey.measured], np.float64)
    height = np.array([m.height or 1 for m in survey.measured], np.float64)
    ratios = (width / height)[survey.readable]
    edges = np.linspace(ratios.min() * 0.98, ratios.max() * 1.02, 41)
    for index, name in enumerate(chosen):
        rows = np.flatnonzero(survey.of(name))
        label = f"{name} (n = {len(rows):,})"
        few = random.permutation(rows)[:_POINTS]
        marker = _MARKERS[index % len(_MARKERS)]
        left.scatter(
            width[few],
            height[few],
            s=14,
            alpha=0.45,
            linewidths=0,
            marker=marker,
            color=COLOURS[index % len(COLOURS)],
            label=label,
        )
        shares = _shares(width[rows] / height[rows], edges)
        right.stairs(shares, edges, linewidth=1.8, label=label, **look(index))
    longest = 1.05 * max(width.max(), height.max())
    left.plot([0, longest], [0, longest], ":", color=GREY, linewidth=1)
    left.set(xlim=(0, longest), ylim=(0, longest), aspect="equal")
    left.set(xlabel="Width (pixels)", ylabel="Height (pixels)", title="Size")
    right.set(xlabel="Width ÷ height", ylabel="Share of the class")
    right.set_title("Aspect ratio")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.legend(loc="upper left")
    return figure


def _shares(
    values: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    counts, _ = np.histogram(values, edges)
    shares: NDArray[np.float64] = counts / max(1, counts.sum())
    return shares


@light
def intensities(survey: Survey, chosen: Sequence[str]) -> Figure:
    """The mean histogram of each class, and where half of its images lie."""
    figure = Figure((WIDE, 3.8), layout="constrained")
    axes = figure.add_subplot()
    middles = (np.arange(BINS) + 0.5) * (256 / BINS)
    for index, name in enumerate(chosen):
        counts = survey.histograms[survey.of(name)].astype(np.float64)
        if not len(counts):
            continue
        shares = counts / counts.sum(axis=1, keepdims=True)
        low, high = np.percentile(shares, [25, 75], axis=0)
        colour = COLOURS[index % len(COLOURS)]
        axes.fill_between(middles, low, high, color=colour, alpha=0.15, linewidth=0)
        label = f"{name} (n = {len(counts):,})"
        axes.plot(middles, shares.mean(axis=0), label=label, **look(index))
    axes.set_xlim(0, 256)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("Intensity as the model gets it (0 black, 255 white)")
    axes.set_ylabel("Share of the pixels")
    axes.legend(loc="best")
    return figure


@light
def shortcuts(clues: Sequence[Shortcut]) -> Figure:
    """For each measurement the class that it tells best, and how well."""
    best: dict[str, Shortcut] = {}
    for clue in clues:
        best.setdefault(clue.measurement, clue)
    shown = list(best.values())[:20][::-1]
    figure = Figure((WIDE, 1.1 + 0.3 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    heights = np.arange(len(shown))
    for height, clue in zip(heights, shown, strict=True):
        colour = COLOURS[1] if clue.is_suspicious else COLOURS[0]
        marker = "D" if clue.is_suspicious else "o"
        axes.plot([clue.low, clue.high], [height] * 2, color=colour, linewidth=1.6)
        axes.plot(clue.auc, height, marker, color=colour, markersize=6)
    axes.axvline(SUSPICIOUS, color=GREY, linewidth=1.2, linestyle=":")
    axes.set_yticks(heights, [f"{clue.measurement} → {clue.finding}" for clue in shown])
    axes.set_xlim(min(0.49, *(clue.low for clue in shown)), 1.01)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"AUC of the measurement alone (dotted: {SUSPICIOUS})")
    return figure


@light
def images_per_patient(survey: Survey, chosen: Sequence[str]) -> Figure:
    """How many patients have one image, two, …; the last bar has the rest."""
    figure = Figure((WIDE, 3.2), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / max(1, len(chosen))
    for index, name in enumerate(chosen):
        _, counts = np.unique(survey.patients[survey.of(name)], return_counts=True)
        patients = np.bincount(np.minimum(counts, _MOST_IN_A_BAR), minlength=7)[1:]
        places = np.arange(1, _MOST_IN_A_BAR + 1) + (index + 0.5) * width - 0.4
        label = f"{name} (n = {len(counts):,} patients)"
        colour = COLOURS[index % len(COLOURS)]
        bars = axes.bar(places, patients, width * 0.92, color=colour, label=label)
        if len(chosen) <= 3:
            axes.bar_label(bars, [f"{n:,}" if n else "" for n in patients], fontsize=8)
    numbers = range(1, _MOST_IN_A_BAR + 1)
    labels = [str(number) for number in numbers]
    axes.set_xticks(list(numbers), [*labels[:-1], f"{_MOST_IN_A_BAR} or more"])
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(xlabel="Images of a patient", ylabel="Patients")
    axes.legend(loc="upper right")
    return figure


@light
def distances(found: Duplicates) -> Figure:
    """How far every picture is from the most similar other one."""
    figure = Figure((WIDE, 3.0), layout="constrained")
    axes = figure.add_subplot()
    known = found.distance[found.nearest >= 0]
    counts, edges = np.histogram(known, np.arange(-1, near_duplicates.BITS + 2, 2))
    axes.stairs(counts, edges, fill=True, color=COLOURS[0])
    axes.axvline(near_duplicates.AT_MOST + 1, color=COLOURS[1], linestyle="--")
    axes.annotate(
        "← nearly equal",
        (near_duplicates.AT_MOST, 0.92),
        xycoords=("data", "axes fraction"),
        ha="right",
        color=COLOURS[1],
    )
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(-2, max(60, int(known.max(initial=0)) + 4))
    axes.set_xlabel(f"Bits of {near_duplicates.BITS} that differ from the nearest")
    axes.set_ylabel(f"Images (n = {len(known):,}, logarithmic)")
    return figure
