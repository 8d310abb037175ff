"""What tells the classes apart without a look at the lungs.

A network takes the easiest way: where one class comes from another machine, its width
or a mark in a corner says more than the disease (Geirhos et al. 2020, "Shortcut
learning in deep neural networks"; Zech et al. 2018, PLOS Medicine 15:e1002683).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainer.survey import Survey

Values = NDArray[np.float64]

SUSPICIOUS = 0.7
TOGETHER = "all of these measurements together"
_FOLDS = 5
# Of the 32 × 32 picture.
_BORDER = 2
_CORNER = 5
_MOST_VALUES = 10


@dataclass(frozen=True)
class Shortcut:
    """How well one measurement tells a class from the others.

    Attributes:
        measurement: its name.
        finding: the class.
        auc: 0.5 to 1, whichever way round; 0.5 says nothing.
        low: of the 95 % interval (Hanley & McNeil 1982, Radiology 143:29).
        high: likewise.
        higher: whether images of the class have the higher values.
        median: of the class.
        median_of_others: of the other images.
        n: images that have the measurement.
    """

    measurement: str
    finding: str
    auc: float
    low: float
    high: float
    higher: bool
    median: float
    median_of_others: float
    n: int

    @property
    def is_suspicious(self) -> bool:
        """Whether it is more than chance and more than a little."""
        return self.auc > SUSPICIOUS and self.low > 0.5


def shortcuts(survey: Survey) -> list[Shortcut]:
    """Every measurement for every class against the others, the highest AUC first.

    Of two classes only the second: the first has the same AUC. A class without others
    has none.
    """
    known = {**measurements(survey), **_stated(survey)}
    classes = survey.classes[1:] if len(survey.classes) == 2 else survey.classes
    found = []
    for name in classes:
        positive = survey.labels[:, survey.classes.index(name)]
        found += [
            shortcut
            for measurement, values in known.items()
            if (shortcut := _shortcut(measurement, name, values, positive))
        ]
        found += _together(survey, name, positive)
    return sorted(found, key=lambda shortcut: -shortcut.auc)


def measurements(survey: Survey) -> dict[str, Values]:
    """What can be measured without knowing anatomy: (files,) each, NaN if unreadable."""
    facts = survey.measured
    width = np.array([m.width or np.nan for m in facts], np.float64)
    height = np.array([m.height or np.nan for m in facts], np.float64)
    size = np.array([m.file_bytes for m in facts], np.float64)
    small = survey.small.astype(np.float64)
    corner, inside = slice(None, _CORNER), slice(_BORDER, -_BORDER)
    other = slice(-_CORNER, None)
    border = small.sum(axis=(1, 2)) - small[:, inside, inside].sum(axis=(1, 2))
    pixels = small.shape[1] * small.shape[2]
    within = (small.shape[1] - 2 * _BORDER) * (small.shape[2] - 2 * _BORDER)
    found = {
        "width": width,
        "height": height,
        "width ÷ height": width / height,
        "bytes a pixel (compression)": size / (width * height),
        "mean brightness": np.array([m.mean for m in facts], np.float64),
        "contrast (standard deviation)": np.array([m.std for m in facts], np.float64),
        "fine detail (step between pixels)": np.array(
            [m.sharpness for m in facts], np.float64
        ),
        "brightness of the border": border / (pixels - within),
        "brightness of the top left corner": small[:, corner, corner].mean((1, 2)),
        "brightness of the top right corner": small[:, corner, other].mean((1, 2)),
        "brightness of the bottom left corner": small[:, other, corner].mean((1, 2)),
        "brightness of the bottom right corner": small[:, other, other].mean((1, 2)),
    }
    return {n: np.where(survey.readable, v, np.nan) for n, v in found.items()}


def _stated(survey: Survey) -> dict[str, Values]:
    """What file, header and table say: numbers as they are, names as yes or no."""
    columns = stated(survey)
    for name in ("format", "channels", "bits"):
        columns[name] = [str(getattr(m, name) or "") for m in survey.measured]
    found = {}
    for name, values in columns.items():
        numbers = numeric(values)
        if numbers is not None:
            found[name] = np.where(survey.readable, numbers, np.nan)
        else:
            found |= _indicators(survey, name, values)
    return found


def _indicators(survey: Survey, name: str, values: list[str]) -> dict[str, Values]:
    common = Counter(value for value in values if value).most_common(_MOST_VALUES)
    known = survey.readable & np.array([bool(value) for value in values])
    # Of two values the second says what the first does.
    common = common[:1] if len(common) == 2 else common
    return {
        f"{name} is {value}": np.where(known, [v == value for v in values], np.nan)
        for value, _ in common
    }


def stated(survey: Survey) -> dict[str, list[str]]:
    """Age, sex, view, site, … of each file, "" where unknown: (files,) each."""
    rows = [survey.columns(row) for row in range(len(survey.measured))]
    names = sorted({name for row in rows for name in row})
    return {name: [row.get(name, "") for row in rows] for name in names}


def numeric(values: list[str]) -> Values | None:
    """Numbers, NaN for what is empty; None if some are words, or few numbers differ."""
    try:
        numbers = np.array([float(value) if value else math.nan for value in values])
    except ValueError:
        return None
    known = np.unique(numbers[np.isfinite(numbers)])
    return numbers if len(known) > _MOST_VALUES else None


def _shortcut(
    measurement: str, name: str, values: Values, positive: NDArray[np.bool_]
) -> Shortcut | None:
    known = np.isfinite(values)
    values, positive = values[known], positive[known]
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others or (values == values[0]).all():
        return None
    auc = float(roc_auc_score(positive, values))
    larger = max(auc, 1 - auc)
    half = 1.96 * _standard_error(larger, count, others)
    return Shortcut(
        measurement=measurement,
        finding=name,
        auc=larger,
        low=max(0.0, larger - half),
        high=min(1.0, larger + half),
        higher=auc >= 0.5,
        median=float(np.median(values[positive])),
        median_of_others=float(np.median(values[~positive])),
        n=len(values),
    )


def _standard_error(auc: float, count: int, others: int) -> float:
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (
        auc * (1 - auc)
        + (count - 1) * (first - auc**2)
        + (others - 1) * (second - auc**2)
    ) / (count * others)
    return math.sqrt(max(variance, 0.0))


def _together(survey: Survey, name: str, positive: NDArray[np.bool_]) -> list[Shortcut]:
    """A logistic regression on all measurements, of patients that it has not seen."""
    table: Mapping[str, Values] = measurements(survey)
    rows = survey.readable
    x, y = np.stack(list(table.values()), axis=1)[rows], positive[rows]
    patients = survey.patients[rows]
    if min(len(np.unique(patients[y])), len(np.unique(patients[~y]))) < 2 * _FOLDS:
        return []
    scores = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        x,
        y,
        groups=patients,
        cv=StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0),
        method="predict_proba",
    )[:, 1]
    every = np.full(len(rows), np.nan)
    every[rows] = scores
    # Below 0.5 it has learnt nothing: the other way round is no better.
    found = _shortcut(TOGETHER, name, every, positive)
    return [found] if found and found.higher else []
