"""A model's temperature and thresholds, chosen again on a site's own labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedGroupKFold

from beam_pipeline.calibration import SiteCalibration, probabilities
from beam_pipeline.manifest import Estimate, Manifest, OperatingPoint
from trainer.evaluation import calibrate, evaluate, operating_points
from trainer.evaluation.evaluate import Scored
from trainer.evaluation.operating_points import Method
from trainer.evaluation.site_labels import Labelled, LabelsError

_FEWEST_IMAGES, _FEWEST_OF_A_KIND, _FOLDS = 50, 20, 5
_JUDGED = f"judged by {_FOLDS}-fold cross-validation, grouped by patient"

Flags = NDArray[np.bool_]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Trial(ABC):
    """Images as a model's thresholds see them.

    There is one decision, about the score; of a multi-label model one for each class.

    Attributes:
        manifest: of the model.
        logits: float32, (images, classes).
        classes: bool, (images, classes), which are there.
        patients: (images,).
    """

    manifest: Manifest
    logits: NDArray[np.float32]
    classes: Flags
    patients: NDArray[np.str_]

    def __getitem__(self, images: NDArray[np.int64]) -> Trial:
        return replace(
            self,
            logits=self.logits[images],
            classes=self.classes[images],
            patients=self.patients[images],
        )

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What each decision is about."""

    @property
    @abstractmethod
    def truths(self) -> Flags:
        """What each decision should be: (images, decisions)."""

    @abstractmethod
    def temperature(self) -> float:
        """The temperature with the lowest log loss on these images."""

    @abstractmethod
    def scores(self, temperature: float) -> Scores:
        """What thresholds are held against: (images, decisions), in [0, 1]."""

    @abstractmethod
    def positive(self, decisions: Flags) -> Flags:
        """Which images are positive: (images,), of (images, decisions)."""

    def thresholds(self, method: Method, temperature: float) -> tuple[float, ...]:
        """The threshold of each decision that `method` chooses on these images."""
        columns = zip(self.truths.T, self.scores(temperature).T, strict=True)
        return tuple(
            float(method.choose(operating_points.curve(truth, scores)))
            for truth, scores in columns
        )

    def judged(self, decisions: Flags) -> tuple[Estimate, Estimate]:
        """Sensitivity and specificity of decisions (images, decisions)."""
        flagged = self.positive(decisions).astype(np.float64)
        scored = Scored(self.positive(self.truths), flagged, self.patients)
        return evaluate.sensitivity(scored, 0.5), evaluate.specificity(scored, 0.5)

    @property
    def _findings(self) -> list[int]:
        return list(self.manifest.finding_indices)

    def _probabilities(self, temperature: float) -> Scores:
        return probabilities(self.logits, temperature, self.manifest.task)


class Exclusive(Trial):
    """Of a model whose classes exclude each other: the score is their findings' sum."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("a finding",)

    @property
    def truths(self) -> Flags:
        return np.asarray(self.classes[:, self._findings].any(axis=1, keepdims=True))

    def temperature(self) -> float:
        return calibrate.temperature(self.logits, self.classes.argmax(axis=1))

    def scores(self, temperature: float) -> Scores:
        of_findings = self._probabilities(temperature)[:, self._findings]
        # Rounding can lift the sum of several findings a hair above 1.
        return np.asarray(np.minimum(of_findings.sum(axis=1, keepdims=True), 1.0))

    def positive(self, decisions: Flags) -> Flags:
        return decisions[:, 0]


class Multilabel(Trial):
    """Of a multi-label model: each class for itself, any finding makes a positive."""

    @property
    def names(self) -> tuple[str, ...]:
        return self.manifest.classes

    @property
    def truths(self) -> Flags:
        return self.classes

    def temperature(self) -> float:
        # A sigmoid is a softmax of two, one of which is 0.
        each = self.logits.ravel()
        pairs = np.stack([np.zeros_like(each), each], axis=1)
        return calibrate.temperature(pairs, self.classes.ravel().astype(np.int64))

    def scores(self, temperature: float) -> Scores:
        return self._probabilities(temperature)

    def positive(self, decisions: Flags) -> Flags:
        return np.asarray(decisions[:, self._findings].any(axis=1))


def trial(labelled: Labelled, manifest: Manifest) -> Trial:
    """The labelled images, once they are enough.

    Raises:
        LabelsError: too few images or patients to choose and judge thresholds.
    """
    kind = Multilabel if manifest.task == "multilabel" else Exclusive
    found = kind(manifest, labelled.logits, labelled.truths, labelled.patients)
    if not len(found.patients):
        raise LabelsError("none of the labelled files has a score of its own")
    for name, truth in zip(found.names, found.truths.T, strict=True):
        _require_enough(len(truth), found.patients[truth], f"with {name}")
        _require_enough(len(truth), found.patients[~truth], f"without {name}")
    return found


def _require_enough(images: int, patients: NDArray[np.str_], kind: str) -> None:
    n = len(patients)
    enough = images >= _FEWEST_IMAGES and n >= _FEWEST_OF_A_KIND
    if enough and len(set(patients)) >= _FOLDS:
        return
    low, high = _wilson(n)
    raise LabelsError(
        f"{images} labelled images, {n} of them {kind}, of {len(set(patients))} "
        f"patients: too few. A sensitivity or specificity of 0.90 measured on {n} has "
        f"a 95 % interval of {low:.2f} to {high:.2f}. Bring {_FEWEST_IMAGES} images or "
        f"more, {_FEWEST_OF_A_KIND} of them {kind}, of {_FOLDS} patients or more"
    )


def _wilson(n: int) -> tuple[float, float]:
    """The interval of a share of 0.9 of `n`."""
    if n == 0:
        return 0.0, 1.0
    found = binomtest(round(0.9 * n), n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def before(found: Trial) -> dict[str, OperatingPoint]:
    """The model's own operating points, judged on the site's images."""
    scores = found.scores(found.manifest.calibration.temperature)
    points = {}
    for name, point in found.manifest.operating_points.items():
        sensitivity, specificity = found.judged(scores >= point.thresholds)
        points[name] = replace(point, sensitivity=sensitivity, specificity=specificity)
    return points


def calibration(
    found: Trial, model_digest: str, site: str, notes: str | None = None
) -> SiteCalibration:
    """Temperature and thresholds chosen on all images, judged on those left out.

    Raises:
        LabelsError: so few patients have a class that a fold without them is empty.
    """
    temperature = found.temperature()
    judged = {name: found.judged(flags) for name, flags in _left_out(found).items()}
    images, patients = len(found.patients), len(set(found.patients))
    points = {
        name: OperatingPoint(
            thresholds=found.thresholds(method, temperature),
            method=f"{method.description}; {_JUDGED}",
            chosen_on=f"{site}: {images} images of {patients} patients",
            sensitivity=judged[name][0],
            specificity=judged[name][1],
        )
        for name, method in operating_points.METHODS.items()
    }
    return SiteCalibration(
        model_name=found.manifest.name,
        model_version=found.manifest.version,
        model_digest=model_digest,
        temperature=temperature,
        operating_points=points,
        site=site,
        images=images,
        patients=patients,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=notes,
    )


def _left_out(found: Trial) -> Mapping[str, Flags]:
    """The decisions (images, decisions) of each method, by those who did not choose.

    For each fold of patients, temperature and thresholds are chosen on the others.
    """
    decisions = {name: np.zeros_like(found.truths) for name in operating_points.METHODS}
    for chosen_on, judged_on in _folds(found):
        others = found[chosen_on]
        temperature = others.temperature()
        scores = found[judged_on].scores(temperature)
        for name, method in operating_points.METHODS.items():
            thresholds = others.thresholds(method, temperature)
            decisions[name][judged_on] = scores >= thresholds
    return decisions


def _folds(found: Trial) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    splitter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    positive = found.positive(found.truths)
    for chosen_on, judged_on in splitter.split(positive, positive, found.patients):
        truths = found.truths[chosen_on]
        for name, truth in zip(found.names, truths.T, strict=True):
            if truth.all() or not truth.any():
                raise LabelsError(
                    f"nearly all images with {name}, or without, are of the same few "
                    "patients; bring more patients of either kind"
                )
        yield chosen_on, judged_on
