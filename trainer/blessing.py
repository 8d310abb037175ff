"""Whether a model may be used: stated minima hold, and it beats the one it replaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from beam_pipeline.calibration import probabilities
from beam_pipeline.manifest import Blessing, Estimate, Manifest, Preparation
from trainer.data import pixels
from trainer.data.dataset import Examples
from trainer.data.pixels import Images
from trainer.evaluation.predictions import Predictions

REQUIRED = {"auc": 0.9}
# Of each metric of a manifest, whether more is better.
_MORE_IS_BETTER = {
    "auc": True,
    "average_precision": True,
    "accuracy": True,
    "brier_score": False,
}


@dataclass(frozen=True)
class Terms:
    """On which a model is blessed.

    Attributes:
        required: the worst value of each of these metrics on held-out patients: the
            least, or of `brier_score` the largest.
        replaces: the model that must be beaten on them, or None.
    """

    required: Mapping[str, float] = field(default_factory=lambda: dict(REQUIRED))
    replaces: Path | None = None

    def __post_init__(self) -> None:
        unknown = sorted(self.required.keys() - _MORE_IS_BETTER.keys())
        if unknown:
            raise ValueError(
                f"--require {', '.join(unknown)}: it can be "
                f"{', '.join(_MORE_IS_BETTER)}"
            )


def require(
    terms: Terms,
    examples: Examples,
    findings: tuple[str, ...],
    preparation: Preparation,
) -> None:
    """Refuse terms that could not be judged, before there is a model to judge.

    Raises:
        ValueError: the model to be replaced answers another question, or sees images
            that were prepared in another way.
        ManifestError: there is no such model.
    """
    if terms.replaces is None:
        return
    old = manifests.load(terms.replaces)
    asked = (examples.task, examples.classes, findings)
    if (old.task, old.classes, old.findings) != asked:
        raise ValueError(
            f"--replaces {terms.replaces}: it is {old.task}, its classes are "
            f"{', '.join(old.classes)}, with {', '.join(old.findings)} as findings; "
            f"the new model is {examples.task}, and its are "
            f"{', '.join(examples.classes)} and {', '.join(findings)}"
        )
    if old.preparation.whole != preparation.whole:
        raise ValueError(
            f"--replaces {terms.replaces} sees images as {old.preparation.name}, the "
            f"new model as {preparation.name}: compare them with `python -m trainer "
            "compare`"
        )


def bless(
    terms: Terms, figures: Mapping[str, Estimate], held_out: Predictions, images: Images
) -> Blessing:
    """The verdict on a model, from its figures on held-out patients.

    Args:
        terms: what is asked of it.
        figures: its metrics on them.
        held_out: its predictions for them.
        images: their model inputs, uint8, (images, height, width, 1).
    """
    verdicts = [
        _reaches(name, worst, figures.get(name))
        for name, worst in terms.required.items()
    ]
    compared_with = None
    if terms.replaces is not None:
        old = manifests.load(terms.replaces)
        digest = manifests.verify(old, terms.replaces)
        compared_with = f"{old.name} {old.version} {digest}"
        verdicts.append(_beats(terms.replaces, old, held_out, images))
    return Blessing(
        blessed=all(held for held, _ in verdicts),
        required=dict(terms.required),
        reasons=tuple(
            f"{reason}: {'held' if held else 'missed'}" for held, reason in verdicts
        ),
        compared_with=compared_with,
    )


def _reaches(name: str, worst: float, figure: Estimate | None) -> tuple[bool, str]:
    if figure is None:
        return False, f"{name} cannot be told from so few patients"
    if _MORE_IS_BETTER[name]:
        return figure.value >= worst, f"{name} {figure.value:.3f} of {worst:g}"
    return figure.value <= worst, f"{name} {figure.value:.3f} of at most {worst:g}"


def _beats(
    model_dir: Path, old: Manifest, held_out: Predictions, images: Images
) -> tuple[bool, str]:
    """Whether the AUC on the same patients is higher.

    The old model may have learned from some of them, which makes it harder to beat.
    """
    model = saved_model.load(model_dir)
    logits = np.concatenate(
        [model.infer(chunk).logits for chunk in pixels.chunks(images)]
    )
    chances = probabilities(logits, old.calibration.temperature, held_out.task)
    indices = list(old.finding_indices)
    total = np.max if held_out.task == "multilabel" else np.sum
    before = float(
        roc_auc_score(held_out.positives, total(chances[:, indices], axis=1))
    )
    now = float(roc_auc_score(held_out.positives, held_out.scores))
    return now > before, f"AUC {now:.4f} against {before:.4f} of {old.name}"
