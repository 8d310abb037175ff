"""Figures: data in, a Matplotlib figure out. Nothing here computes or writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from beam_pipeline.manifest import Estimate
from trainer.evaluation.curves import (
    CoverageRisk,
    Histogram,
    PrecisionRecall,
    Reliability,
    Roc,
    Sweep,
)
from trainer.evaluation.intervals import Reported
from trainer.evaluation.subgroups import Subgroup
from trainer.figure_style import BLUE, GREEN, GREY, ORANGE, light, look

_SQUARE = (5.4, 5.2)
_WIDE = (9.6, 4.4)


def shown(figure: Reported, digits: int = 3) -> str:
    """A figure and its interval as text; a dash where there is none."""
    if not isinstance(figure, Estimate):
        return "–"
    joint = " to " if figure.low < 0 else "–"
    ends = f"{figure.low:.{digits}f}{joint}{figure.high:.{digits}f}"
    return f"{figure.value:.{digits}f} ({ends})".replace("-", "−")


def _lines(names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, look(index)) for index, name in enumerate(names)]


def _unit_axes(axes: Axes, *, equal: bool = False) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    if equal:
        axes.set_aspect("equal")


@light
def roc(
    curves: Mapping[str, Roc],
    aucs: Mapping[str, Reported],
    points: Mapping[str, tuple[float, float]],
) -> Figure:
    """ROC curves by name, a band for one alone, and decisions as dots.

    Args:
        curves: by name.
        aucs: by the same names.
        points: (false positive rate, sensitivity) of the decision, by name.
    """
    figure = Figure(_SQUARE, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for name, style in _lines(list(curves)):
        curve = curves[name]
        if len(curves) == 1 and len(curve.low):
            axes.fill_between(
                curve.grid,
                curve.low,
                curve.high,
                color=style["color"],
                alpha=0.18,
                linewidth=0,
                label="95 % band, point by point",
            )
        axes.plot(
            curve.false_positive_rate,
            curve.sensitivity,
            label=f"{name}: AUC {shown(aucs[name])}",
            **style,
        )
        if name in points:
            _dot(axes, points[name], style["color"])
    if points:
        axes.plot([], [], "o", color=GREY, markersize=6, label="operating point")
    _unit_axes(axes, equal=True)
    if all(_is_high(curve) for curve in curves.values()):
        _enlarged(axes, curves, points)
    axes.set_xlabel("1 − specificity (share of false alarms)")
    axes.set_ylabel("Sensitivity")
    axes.set_title("ROC curve")
    axes.legend(loc="lower right")
    return figure


def _is_high(curve: Roc) -> bool:
    return float(np.interp(0.2, curve.false_positive_rate, curve.sensitivity)) > 0.9


def _enlarged(
    axes: Axes, curves: Mapping[str, Roc], points: Mapping[str, tuple[float, float]]
) -> None:
    """The upper left corner, where all that good curves differ in happens."""
    corner = axes.inset_axes((0.38, 0.34, 0.5, 0.5))
    for name, style in _lines(list(curves)):
        curve = curves[name]
        if len(curves) == 1 and len(curve.low):
            corner.fill_between(
                curve.grid,
                curve.low,
                curve.high,
                color=style["color"],
                alpha=0.18,
                linewidth=0,
            )
        corner.plot(curve.false_positive_rate, curve.sensitivity, **style)
        if name in points:
            _dot(corner, points[name], style["color"])
    corner.set_xlim(0, 0.2)
    corner.set_ylim(0.8, 1.003)
    corner.set_xticks([0, 0.1, 0.2])
    corner.set_yticks([0.8, 0.9, 1])
    corner.tick_params(labelsize=8)
    corner.set_title("enlarged", fontsize=8, fontweight="normal", pad=2)


def _dot(axes: Axes, point: tuple[float, float], colour: str) -> None:
    axes.plot(
        *point, "o", color=colour, markersize=8, markeredgecolor="white", zorder=5
    )


@light
def precision_recall(
    curves: Mapping[str, PrecisionRecall],
    precisions: Mapping[str, Reported],
    points: Mapping[str, tuple[float, float]],
) -> Figure:
    """Precision against recall by name; the dotted line is what chance gives.

    Args:
        curves: by name.
        precisions: average precisions, by the same names.
        points: (recall, precision) of the decision, by name.
    """
    figure = Figure(_SQUARE, layout="constrained")
    axes = figure.add_subplot()
    for name, style in _lines(list(curves)):
        curve = curves[name]
        axes.step(
            curve.recall,
            curve.precision,
            where="post",
            label=f"{name}: AP {shown(precisions[name])}",
            **style,
        )
        if name in points:
            _dot(axes, points[name], style["color"])
    for prevalence in sorted({curve.prevalence for curve in curves.values()}):
        axes.axhline(prevalence, color=GREY, linewidth=1, linestyle=":")
    axes.plot([], [], ":", color=GREY, linewidth=1, label="without any skill")
    if points:
        axes.plot([], [], "o", color=GREY, markersize=6, label="operating point")
    _unit_axes(axes, equal=True)
    axes.set_xlabel("Recall (sensitivity)")
    axes.set_ylabel("Precision (PPV) at the prevalence of these images")
    axes.set_title("Precision and recall")
    axes.legend(loc="lower left")
    return figure


@light
def thresholds(sweep: Sweep, threshold: float, finding: str, other: str) -> Figure:
    """Recalls of both kinds, and precision with recall, against the threshold."""
    figure = Figure(_WIDE, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    panels = (
        (left, "Recall of either kind", sweep.specificity, f"recall of {other}"),
        (right, "Precision and recall", sweep.ppv, f"precision of {finding}"),
    )
    for axes, title, values, label in panels:
        axes.plot(
            sweep.thresholds,
            sweep.sensitivity,
            color=ORANGE,
            label=f"recall of {finding}",
        )
        axes.plot(sweep.thresholds, values, color=BLUE, linestyle="--", label=label)
        axes.axvline(
            threshold, color=GREY, linestyle=":", label=f"threshold {threshold:.3f}"
        )
        _unit_axes(axes)
        axes.set_xlabel("Threshold of the score")
        axes.set_title(title)
        axes.legend(loc="lower center")
    left.set_ylabel("Share of images")
    return figure


@light
def reliability(found: Reliability, scores: Histogram) -> Figure:
    """Predicted probability against observed share, above how scores are spread."""
    figure = Figure((5.4, 5.6), layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    top.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="calibrated")
    errors = [found.observed - found.low, found.high - found.observed]
    top.errorbar(
        found.predicted,
        found.observed,
        yerr=np.maximum(errors, 0),
        fmt="o-",
        color=BLUE,
        capsize=3,
        linewidth=1.2,
        label="tenth of the images, 95 % interval",
    )
    _unit_axes(top)
    top.set_ylabel("Observed share of findings")
    top.set_title("Reliability")
    top.legend(loc="upper left")
    total = np.sum(list(scores.images.values()), axis=0)
    below.stairs(total, scores.edges, fill=True, color="#9CC3DC")
    below.set_ylabel("Images")
    below.set_xlabel("Predicted probability of a finding")
    return figure


@light
def decision_curve(curves: Mapping[str, Sweep], prevalence: float) -> Figure:
    """Net benefit against the chance at which one would act; see `curves.Sweep`."""
    figure = Figure((5.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    first = next(iter(curves.values()))
    axes.plot(
        first.thresholds,
        first.net_benefit_of_all,
        color=GREY,
        linestyle="--",
        linewidth=1.3,
        label="act on every image",
    )
    axes.axhline(0, color="black", linewidth=1, label="act on none")
    for name, style in _lines(list(curves)):
        axes.plot(
            curves[name].thresholds, curves[name].net_benefit, label=name, **style
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.15 * prevalence, 1.08 * prevalence)
    axes.set_xlabel("Probability of a finding at which one would act")
    axes.set_ylabel("Net benefit (true positives an image)")
    axes.set_title("Decision curve")
    axes.legend(loc="lower left")
    return figure


@light
def confusion(
    matrices: Mapping[str, NDArray[np.int64]], classes: Sequence[str]
) -> Figure:
    """Counts, and shares of each row, which are the recalls; a panel for each name."""
    side = max(3.6, 0.85 * len(classes) + 1.6)
    figure = Figure((side * len(matrices) + 0.6, side), layout="constrained")
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
        rows = matrix.sum(axis=1, keepdims=True)
        shares = matrix / np.maximum(rows, 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            axes.text(
                column,
                row,
                f"{count:,}\n{shares[row, column]:.1%}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.55 else "black",
            )
        axes.set_xticks(range(len(classes)), classes)
        labels = [f"{c}\n(n = {n:,})" for c, n in zip(classes, rows[:, 0], strict=True)]
        axes.set_yticks(range(len(classes)), labels)
        if len(classes) > 4:
            axes.tick_params(axis="x", rotation=45)
        axes.grid(visible=False)
        axes.set_xlabel("Decision")
        axes.set_title(name)
    panels[0].set_ylabel("Label")
    return figure


@light
def histogram(scores: Histogram, threshold: float) -> Figure:
    """How many images of each class have which score, on a logarithmic scale."""
    figure = Figure((5.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for name, style in _lines(list(scores.images)):
        counts = scores.images[name]
        axes.stairs(
            counts,
            scores.edges,
            linewidth=1.8,
            label=f"{name} (n = {counts.sum():,})",
            **style,
        )
        axes.stairs(counts, scores.edges, fill=True, alpha=0.15, color=style["color"])
    axes.axvline(threshold, color=GREY, linewidth=1.2, linestyle=":")
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter("{x:g}")
    # Room for the legend above the highest bar.
    axes.set_ylim(0, 6 * max(1, *(c.max() for c in scores.images.values())))
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"Score (dotted: threshold {threshold:.3f})")
    axes.set_ylabel("Images (logarithmic)")
    axes.set_title("Scores by label")
    axes.legend(loc="upper center")
    return figure


@light
def coverage_risk(found: CoverageRisk) -> Figure:
    """Wrong decisions among the images that the model is surest of."""
    figure = Figure((5.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(found.coverage, found.risk, color=BLUE)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.set_xlabel("Images kept, those with the smallest spread first")
    axes.set_ylabel("Wrong decisions among them")
    axes.set_title("Coverage and risk")
    return figure


@light
def predictive_values(
    prevalences: NDArray[np.float64],
    values: Mapping[str, Sequence[Reported]],
    seen: float,
) -> Figure:
    """PPV and NPV against the prevalence, with their intervals.

    Args:
        prevalences: (points,).
        values: by name, (points,) each.
        seen: the prevalence of the images at hand.
    """
    figure = Figure((5.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for name, style in _lines(list(values)):
        known = [
            (share, each)
            for share, each in zip(prevalences, values[name], strict=True)
            if isinstance(each, Estimate)
        ]
        if not known:
            continue
        x = [share for share, _ in known]
        axes.plot(x, [each.value for _, each in known], label=name, **style)
        axes.fill_between(
            x,
            [each.low for _, each in known],
            [each.high for _, each in known],
            color=style["color"],
            alpha=0.18,
            linewidth=0,
        )
    axes.axvline(seen, color=GREY, linewidth=1.2, linestyle=":")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.set_xlim(prevalences[0], prevalences[-1])
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel(f"Prevalence of the finding (dotted: these images, {seen:.0%})")
    axes.set_ylabel("Predictive value")
    axes.set_title("Predictive values by prevalence")
    axes.legend(loc="lower right")
    return figure


@light
def forest(rows: Sequence[Subgroup], whole: Mapping[str, Reported]) -> Figure:
    """AUC, sensitivity and specificity of each subgroup; dotted, of all images."""
    figure = Figure((9.6, 1.5 + 0.34 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    heights = np.arange(len(rows))[::-1]
    names = [f"{row.column}: {row.value} (n = {row.images:,})" for row in rows]
    for axes, metric in zip(panels, ("auc", "sensitivity", "specificity"), strict=True):
        everyone = whole[metric]
        if isinstance(everyone, Estimate):
            axes.axvline(everyone.value, color=GREY, linewidth=1.2, linestyle=":")
        for height, row in zip(heights, rows, strict=True):
            _interval(axes, float(height), getattr(row, metric))
        axes.set_title("AUC" if metric == "auc" else metric.capitalize())
        axes.set_yticks(heights, names)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure


@light
def side_by_side(metrics: Mapping[str, Mapping[str, Reported]]) -> Figure:
    """A panel for each metric, with a row for each model.

    Args:
        metrics: by label, and within by model.
    """
    models = list(next(iter(metrics.values())))
    columns = 4
    rows = -(-len(metrics) // columns)
    figure = Figure((9.6, rows * (0.9 + 0.36 * len(models))), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    heights = np.arange(len(models), dtype=np.float64)[::-1]
    for axes, (label, found) in zip(panels, metrics.items(), strict=False):
        for height, (name, style) in zip(heights, _lines(models), strict=True):
            _interval(axes, float(height), found[name], style["color"])
        axes.set_title(label)
        axes.set_yticks(heights, models)
        axes.set_ylim(-0.7, len(models) - 0.3)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    for axes in panels[len(metrics) :]:
        axes.set_visible(False)
    return figure


def _interval(axes: Axes, height: float, figure: Reported, colour: str = BLUE) -> None:
    if isinstance(figure, Estimate):
        axes.plot([figure.low, figure.high], [height] * 2, color=colour, linewidth=1.6)
        axes.plot(figure.value, height, "o", color=colour, markersize=6)
        return
    axes.annotate(
        "no figure",
        (0.5, height),
        xycoords=("axes fraction", "data"),
        ha="center",
        va="center",
        color=GREY,
        fontsize=9,
    )


@light
def training_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss, validation AUC and learning rate by epoch, over all stages.

    Args:
        history: a row for each epoch, with `stage`, `loss`, `val_loss`, `val_auc` and
            `learning_rate`; `epoch` may begin again in each stage.
    """
    figure = Figure((10.8, 3.9), layout="constrained")
    losses, aucs, rates = figure.subplots(1, 3)
    epochs = np.arange(1, len(history) + 1)

    def column(name: str) -> list[float]:
        return [float(row.get(name, np.nan)) for row in history]

    losses.plot(epochs, column("loss"), "o-", color=BLUE, ms=4, label="training")
    losses.plot(
        epochs, column("val_loss"), "s--", color=ORANGE, ms=4, label="validation"
    )
    losses.legend(loc="upper right")
    aucs.plot(epochs, column("val_auc"), "s--", color=ORANGE, ms=4)
    rates.plot(epochs, column("learning_rate"), color=GREEN, drawstyle="steps-mid")
    rates.set_yscale("log")
    # Room for the names of the stages.
    rates.margins(y=0.3)
    titles = ("Loss", "AUC, validation", "Learning rate")
    stages = [str(row.get("stage", "")) for row in history]
    starts = [i for i, name in enumerate(stages) if not i or name != stages[i - 1]]
    for axes, title in zip((losses, aucs, rates), titles, strict=True):
        axes.set_title(title)
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(0.5, len(history) + 0.5)
        for start in starts[1:]:
            axes.axvline(start + 0.5, color=GREY, linewidth=1, linestyle=":")
    for start in starts:
        rates.annotate(
            stages[start].replace("_", " "),
            (start + 0.5, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            va="top",
            color="#555555",
        )
    return figure
