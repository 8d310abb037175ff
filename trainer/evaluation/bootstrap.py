"""The bootstrap over patients, drawn once and shared by all figures.

A resample is a weight for each image: how often its patient was drawn. A measure turns
weights (resamples, images) into figures (resamples,), for many resamples at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.manifest import Estimate
from trainer.evaluation.intervals import Absent, Reported

Floats = NDArray[np.float64]
Measure = Callable[[Floats], Mapping[str, Floats]]

_NUMBERS_AT_ONCE = 1_000_000
# Percentiles of fewer resamples than this share would be those of a chosen few.
_LEAST_DEFINED = 0.8


@dataclass(frozen=True)
class Resamples:
    """Patients drawn with replacement, as many as there are.

    Attributes:
        counts: uint16, (resamples, patients): how often each was drawn.
        patient_of: int, (images,): the position of each image's patient.
    """

    counts: NDArray[np.uint16]
    patient_of: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    def weights(self) -> Iterator[Floats]:
        """The weights of all resamples, some at a time: (some, images)."""
        step = max(1, _NUMBERS_AT_ONCE // max(len(self.patient_of), 1))
        for start in range(0, len(self.counts), step):
            counts = self.counts[start : start + step].astype(np.float64)
            yield counts[:, self.patient_of]


def draw(patients: NDArray[np.str_], count: int, seed: int) -> Resamples:
    """`count` resamples of patients, (images,); the images' order does not matter."""
    names, patient_of = np.unique(patients, return_inverse=True)
    random = np.random.default_rng(seed)
    size = len(names)
    counts = np.empty((count, size), np.uint16)
    for row in counts:
        row[:] = np.bincount(random.integers(size, size=size), minlength=size)
    return Resamples(counts, patient_of)


def samples(measure: Measure, resamples: Resamples) -> dict[str, Floats]:
    """Each figure in every resample, (resamples,), NaN where it is not defined."""
    parts = [measure(weights) for weights in resamples.weights()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def estimates(
    measure: Measure, resamples: Resamples, undefined: Mapping[str, str]
) -> dict[str, Reported]:
    """Every figure of `measure`, with a percentile interval (Efron 1979).

    Resamples in which a figure is not defined, such as an average precision without
    a positive image, are left out of its interval.

    Args:
        measure: see above.
        resamples: see `draw`.
        undefined: why a figure may be not defined, by name.
    """
    images = len(resamples.patient_of)
    values = measure(np.ones((1, images)))
    drawn = samples(measure, resamples)
    return {
        name: _estimate(
            float(value[0]), drawn[name], images, undefined.get(name, "not defined")
        )
        for name, value in values.items()
    }


def _estimate(value: float, drawn: Floats, images: int, undefined: str) -> Reported:
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value):
        return Absent(undefined)
    if len(defined) < _LEAST_DEFINED * len(drawn):
        return Absent(
            f"too few patients for an interval ({undefined} in many resamples)"
        )
    low, high = np.percentile(defined, [2.5, 97.5])
    alike = "; all alike, so without width" if low == high else ""
    return Estimate(
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        n=images,
        method=f"bootstrap over patients, {len(drawn)} resamples{alike}",
    )
