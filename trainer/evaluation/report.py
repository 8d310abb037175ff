"""What all reports share: pages, figures on disk, tables, JSON."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from beam_pipeline.manifest import Estimate
from trainer.evaluation.intervals import Absent, Reported

LABELS = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV, as seen",
    "npv": "NPV, as seen",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "youden_index": "Youden index",
    "mcc": "Matthews correlation",
    "kappa": "Cohen's kappa",
    "lr_positive": "LR+",
    "lr_negative": "LR−",
    "brier_score": "Brier score",
    "log_loss": "Log loss",
    "ece_equal_mass": "ECE, bins of equal mass",
    "ece_equal_width": "ECE, bins of equal width",
    "calibration_slope": "Calibration slope (1 is best)",
    "calibration_intercept": "Calibration intercept (0 is best)",
    "auc_macro": "AUC, one class against the rest, mean",
    "average_precision_macro": "Average precision, mean over classes",
    "precision_macro": "Precision, mean over classes",
    "recall_macro": "Recall, mean over classes",
    "f1_macro": "F1, mean over classes",
    "precision_weighted": "Precision, weighted by class",
    "recall_weighted": "Recall, weighted by class",
    "f1_weighted": "F1, weighted by class",
}
FIGURE_COLUMNS = ("value", "low", "high", "n", "method", "reason")


@dataclass(frozen=True)
class Drawn:
    """A figure and what is said of it.

    Attributes:
        name: of its files.
        caption: what it shows, in a sentence or two.
        figure: the drawing.
        wide: as wide as the page.
    """

    name: str
    caption: str
    figure: Figure
    wide: bool = False


def check_folder(output: Path) -> None:
    """See that an output folder can be made.

    Raises:
        FileExistsError: there is something in it.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(
            f"{output} exists and is not empty; choose another --output"
        )


def make_folder(output: Path) -> None:
    """Make an output folder, or take an empty one.

    Raises:
        FileExistsError: there is something in it.
    """
    check_folder(output)
    output.mkdir(parents=True, exist_ok=True)


def save_figures(figures: Iterable[Drawn], folder: Path) -> list[dict[str, Any]]:
    """Write each as PNG and SVG, and give what a page shows of it."""
    folder.mkdir(exist_ok=True)
    shown = []
    for drawn in figures:
        drawn.figure.savefig(folder / f"{drawn.name}.png")
        # What was laid out once stays where it is; it is most of the time of a drawing.
        drawn.figure.set_layout_engine("none")
        buffer = io.BytesIO()
        # Without the date the same figures have the same bytes.
        drawn.figure.savefig(buffer, format="svg", metadata={"Date": None})
        (folder / f"{drawn.name}.svg").write_bytes(buffer.getvalue())
        encoded = base64.b64encode(buffer.getvalue()).decode()
        shown.append(
            {
                "name": drawn.name,
                "caption": drawn.caption,
                "wide": drawn.wide,
                "source": f"data:image/svg+xml;base64,{encoded}",
            }
        )
    return shown


def render(template: str, path: Path, **content: Any) -> None:
    """Write a page from one of `reports/*.html`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainer", "reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["interval"] = interval
    environment.filters["label"] = lambda name: LABELS.get(name, name)
    environment.filters["inorder"] = in_order
    environment.filters["p"] = p_value
    environment.filters["verdict"] = _verdict
    environment.tests["absent"] = lambda figure: isinstance(figure, Absent)
    page = environment.get_template(template).render(**content)
    path.write_text(page, "utf-8")


def in_order(found: Mapping[str, Reported]) -> list[str]:
    """The names of figures, as `LABELS` orders them."""
    known = [name for name in LABELS if name in found]
    return [*known, *(name for name in found if name not in LABELS)]


def p_value(value: float) -> str:
    """A p value as journals print it."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _verdict(difference: Reported) -> str:
    if not isinstance(difference, Estimate):
        return ""
    apart = difference.low > 0 or difference.high < 0
    return "interval without 0" if apart else "0 is within"


def number(figure: Reported) -> str:
    """The value of a figure, with as many digits as say something."""
    if not isinstance(figure, Estimate):
        return "–"
    return _minus(f"{figure.value:.{_digits(figure)}f}")


def interval(figure: Reported) -> str:
    """Its 95 % interval."""
    if not isinstance(figure, Estimate):
        return ""
    digits = _digits(figure)
    joint = " to " if figure.low < 0 else "–"
    return _minus(f"{figure.low:.{digits}f}{joint}{figure.high:.{digits}f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _digits(figure: Estimate) -> int:
    # Likelihood ratios: 32.97 says more than is known.
    if abs(figure.value) >= 10:
        return 1
    # 0.9996 is not 1.000.
    return 4 if 0.9985 <= figure.value < 1 else 3


def plain(value: Any) -> Any:
    """A value as JSON knows it; what is no number is null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def write_json(path: Path, document: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write a document in UTF-8."""
    text = json.dumps(plain(document), indent=indent, ensure_ascii=False)
    path.write_text(text + "\n", "utf-8")


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a table in UTF-8."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        table.writerows(rows)


def cells(figure: Reported) -> tuple[object, ...]:
    """The `FIGURE_COLUMNS` of a table."""
    if isinstance(figure, Absent):
        return ("", "", "", "", "", figure.reason)
    return (figure.value, figure.low, figure.high, figure.n, figure.method, "")
