"""Files → labels, by an exported model, with the job's own reading and decision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beam_pipeline import decide, saved_model
from beam_pipeline.decide import Policy
from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.images import rules
from beam_pipeline.records import Outcome
from beam_pipeline.saved_model import SavedModel
from trainer.explanation import radiograph
from trainer.explanation.radiograph import Radiograph


@dataclass(frozen=True)
class Reader:
    """A model that is asked about one file after the other.

    Attributes:
        model: what scores.
        policy: what decides.
    """

    model: SavedModel
    policy: Policy

    def read(self, path: Path) -> Radiograph:
        """The file, whether the job would score it or not.

        Raises:
            NotScored: it cannot be read.
        """
        preparation = self.model.manifest.preparation
        return radiograph.read(path, preparation, self.policy.rules)

    def answer(self, path: Path, seen: Radiograph) -> Outcome:
        """The row that the job would write, without what only the header says.

        Raises:
            NotScored: the model gave no number, or the job's rules refuse the answer.
        """
        inference = self.model.infer(seen.image[np.newaxis])
        probabilities = inference.probabilities[0]
        if not np.isfinite(probabilities).all():
            detail = "the model gave a probability that is not a number"
            raise Unreadable(Failure.NAN_SCORE, detail)
        outlier, spread = inference.outlier_score, inference.spread
        row = Outcome(
            source_uri=str(path),
            flags=seen.flags,
            probabilities=tuple(probabilities.tolist()),
            logits=tuple(inference.logits[0].tolist()),
            outlier_score=None if outlier is None else float(outlier[0]),
            spread=None if spread is None else float(spread[0]),
        )
        return decide.decide(row, self.policy)


def reader(
    model_dir: Path,
    operating_point: str | None = None,
    threshold: float | None = None,
) -> Reader:
    """The model in a directory, with its own rules and one of its operating points.

    Raises:
        ManifestError: a model that cannot be used.
        ValueError: an operating point that it has not, or a threshold that is none.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"--threshold {threshold} is not between 0 and 1")
    model = saved_model.load(model_dir)
    policy = decide.policy(
        model.manifest,
        model.digest,
        None,
        operating_point=operating_point,
        threshold=threshold,
        rules=rules.compiled(model.manifest),
    )
    return Reader(model, policy)


def line(outcome: Outcome, classes: tuple[str, ...]) -> str:
    """Label and confidence, which is the probability of that label.

    A multi-label model may have several labels, or none: then the likeliest class is
    said, with its probability.
    """
    chances = dict(zip(classes, outcome.probabilities or (), strict=True))
    if not outcome.labels:
        likeliest = max(chances, key=chances.__getitem__)
        return f"Pred: none | Likeliest: {likeliest} {chances[likeliest]:.2f}"
    confidences = ", ".join(f"{chances[label]:.2f}" for label in outcome.labels)
    return f"Pred: {', '.join(outcome.labels)} | Confidence: {confidences}"


def warnings(seen: Radiograph, outcome: Outcome) -> list[str]:
    """What whoever reads the label should know first."""
    told = [f"the job would not score it: {why}" for why in seen.objections]
    if outcome.abstained:
        told.append("the score is too near the threshold to call")
    if "UNLIKE_TRAINING" in outcome.flags:
        told.append("it is unlike the images that the model has learned from")
    if "BURNED_IN_ANNOTATION" in outcome.flags:
        told.append(
            "text may stand in the picture itself, perhaps the patient's: look before "
            "you show it to anybody"
        )
    return told
