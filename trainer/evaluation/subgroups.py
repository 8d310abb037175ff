"""The same figures for some of the patients: by age, sex, view, site, subtype."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation import delong
from trainer.evaluation.intervals import Absent, Reported, proportion
from trainer.evaluation.predictions import Predictions

FEWEST_IMAGES = 30
FEWEST_OF_A_KIND = 10

# Lower ends, in years. Below 18 by how children are grouped, above by decades of risk.
_AGE_BANDS = {
    0: "under 1 year",
    1: "1–5 years",
    6: "6–11 years",
    12: "12–17 years",
    18: "18–39 years",
    40: "40–64 years",
    65: "65–79 years",
    80: "80 years and over",
}
_NOT_STATED = "not stated"
# PS3.5 6.2, AS: 018M; or a plain number of years.
_AGE = re.compile(r"(\d{3})([DWMY])|(\d+(?:\.\d+)?)")
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


@dataclass(frozen=True)
class Subgroup:
    """One value of one column.

    Attributes:
        column: such as `sex`.
        value: such as `F`.
        images: how many have it.
        positives: how many of them have a finding.
        patients: how many they are of.
        auc: see `delong`.
        sensitivity: at the evaluation's thresholds.
        specificity: the same.
    """

    column: str
    value: str
    images: int
    positives: int
    patients: int
    auc: Reported
    sensitivity: Reported
    specificity: Reported


def subgroups(
    predictions: Predictions, flagged: NDArray[np.bool_]
) -> tuple[Subgroup, ...]:
    """A row for every value of every column; those with few images say so.

    A subtype is known of findings alone: each is held against all other images.

    Args:
        predictions: the images.
        flagged: (images,), the decisions.
    """
    return tuple(
        _subgroup(predictions, flagged, column, value, rows)
        for column in predictions.columns
        for value, rows in _groups(predictions, column)
    )


def _groups(
    predictions: Predictions, column: str
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    values = predictions.columns[column]
    positives = predictions.positives
    if column == "subtype":
        for value in sorted(set(values[positives])):
            name = value or _NOT_STATED
            yield name, (positives & (values == value)) | ~positives
        return
    if column == "age":
        names = np.array([age_band(value) for value in values])
        order = [*_AGE_BANDS.values(), _NOT_STATED]
    else:
        names = np.where(values == "", _NOT_STATED, values)
        order = [*sorted(set(names) - {_NOT_STATED}), _NOT_STATED]
    yield from ((name, names == name) for name in order if (names == name).any())


def age_band(text: str) -> str:
    """The band of an age: `4`, `4.5` years, or as DICOM writes it, `018M`."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        return _NOT_STATED
    number, unit, years = match.groups()
    age = float(years) if years else int(number) / _PER_YEAR[unit]
    return _AGE_BANDS[max(lower for lower in _AGE_BANDS if lower <= age)]


def _subgroup(
    predictions: Predictions,
    flagged: NDArray[np.bool_],
    column: str,
    value: str,
    rows: NDArray[np.bool_],
) -> Subgroup:
    positives, patients = predictions.positives[rows], predictions.patients[rows]
    scores, decided = predictions.scores[rows], flagged[rows]
    found, rest = int(positives.sum()), int((~positives).sum())
    few = _too_few(found, rest)
    return Subgroup(
        column=column,
        value=str(value),
        images=found + rest,
        positives=found,
        patients=len(set(patients)),
        auc=few or delong.auc(positives, scores, patients),
        sensitivity=few or proportion(decided[positives], patients[positives]),
        specificity=few or proportion(~decided[~positives], patients[~positives]),
    )


def _too_few(found: int, rest: int) -> Absent | None:
    if found + rest >= FEWEST_IMAGES and min(found, rest) >= FEWEST_OF_A_KIND:
        return None
    return Absent(
        f"too few: {FEWEST_IMAGES} images, {FEWEST_OF_A_KIND} of each kind, are needed"
    )
