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
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainer.exploration.survey import Survey

Values = NDArray[np.float64]
# Where a measurement comes from: the size and encoding of the file, the pixels, what
# header or table say, or all but the last together.
Source = Literal["file", "picture", "stated", "together"]

SUSPICIOUS = 0.7
TOGETHER = "sizes and pixels together"
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
        source: where it comes from.
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
    source: Source
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
    sources: dict[Source, dict[str, Values]] = {
        "file": {**sizes(survey), **_encodings(survey)},
        "picture": _pixels(survey),
        "stated": _split_up(survey, stated(survey)),
    }
    classes = survey.classes[1:] if len(survey.classes) == 2 else survey.classes
    found = []
    for name in classes:
        positive = survey.labels[:, survey.classes.index(name)]
        together = _together(survey, positive)
        found += [
            _shortcut(measurement, source, name, values, positive)
            for source, known in {**sources, "together": together}.items()
            for measurement, values in known.items()
        ]
    return sorted((s for s in found if s), key=lambda shortcut: -shortcut.auc)


def sizes(survey: Survey) -> dict[str, Values]:
    """Width, height and what follows from them: (files,) each, NaN if unreadable."""
    width = np.array([m.width or np.nan for m in survey.measured], np.float64)
    height = np.array([m.height or np.nan for m in survey.measured], np.float64)
    size = np.array([m.file_bytes for m in survey.measured], np.float64)
    found = {
        "width": width,
        "height": height,
        "width ÷ height": width / height,
        "bytes a pixel (compression)": size / (width * height),
    }
    return _of_readable(survey, found)


def _pixels(survey: Survey) -> dict[str, Values]:
    """What can be measured without knowing anatomy."""
    facts, small = survey.measured, survey.small.astype(np.float64)
    start, end = slice(None, _CORNER), slice(-_CORNER, None)
    border = np.ones(small.shape[1:], np.bool_)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    found = {
        "mean brightness": np.array([m.mean for m in facts], np.float64),
        "contrast (standard deviation)": np.array([m.std for m in facts], np.float64),
        "fine detail (step between pixels)": np.array(
            [m.sharpness for m in facts], np.float64
        ),
        "brightness of the border": small[:, border].mean(axis=1),
        "brightness of the top left corner": small[:, start, start].mean((1, 2)),
        "brightness of the top right corner": small[:, start, end].mean((1, 2)),
        "brightness of the bottom left corner": small[:, end, start].mean((1, 2)),
        "brightness of the bottom right corner": small[:, end, end].mean((1, 2)),
    }
    return _of_readable(survey, found)


def _of_readable(survey: Survey, found: Mapping[str, Values]) -> dict[str, Values]:
    return {n: np.where(survey.readable, v, np.nan) for n, v in found.items()}


def _encodings(survey: Survey) -> dict[str, Values]:
    names = ("format", "channels", "bits")
    columns = {n: [str(getattr(m, n) or "") for m in survey.measured] for n in names}
    return _split_up(survey, columns)


def _split_up(survey: Survey, columns: Mapping[str, list[str]]) -> dict[str, Values]:
    """Numbers as they are, names as yes or no."""
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
    measurement: str,
    source: Source,
    name: str,
    values: Values,
    positive: NDArray[np.bool_],
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
        source=source,
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


def _together(survey: Survey, positive: NDArray[np.bool_]) -> dict[str, Values]:
    """A logistic regression's scores, of patients that it has not seen."""
    table = {**sizes(survey), **_pixels(survey)}
    rows = survey.readable
    x, y = np.stack(list(table.values()), axis=1)[rows], positive[rows]
    patients = survey.patients[rows]
    if min(len(np.unique(patients[y])), len(np.unique(patients[~y]))) < 2 * _FOLDS:
        return {}
    scores = np.full(len(rows), np.nan)
    scores[rows] = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        x,
        y,
        groups=patients,
        cv=StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0),
        method="predict_proba",
    )[:, 1]
    return {TOGETHER: scores}
