"""Whether a model may be used: stated minima hold, and it beats the one it replaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from beam_pipeline.manifest import Blessing, Estimate, Manifest
from trainer.pixels import Images
from trainer.predictions import Predictions, probabilities

_BATCH = 64
REQUIRED = {"auc": 0.9}


@dataclass(frozen=True)
class Terms:
    """On which a model is blessed.

    Attributes:
        required: the least value of each of these metrics on held-out patients.
        replaces: the model that must be beaten on them, or None.
    """

    required: Mapping[str, float] = field(default_factory=lambda: dict(REQUIRED))
    replaces: Path | None = None


def bless(
    terms: Terms, figures: Mapping[str, Estimate], held_out: Predictions, images: Images
) -> Blessing:
    """The verdict on a model, from its figures on held-out patients.

    Args:
        terms: what is asked of it.
        figures: its metrics on them.
        held_out: its predictions for them.
        images: their model inputs, uint8, (images, height, width, 1).

    Raises:
        ValueError: a term about a metric that there is not, or a model to be replaced
            that answers another question.
    """
    unknown = sorted(terms.required.keys() - figures.keys())
    if unknown:
        raise ValueError(
            f"--require {', '.join(unknown)}: the metrics are {', '.join(figures)}"
        )
    verdicts = [
        (figures[name].value >= least, f"{name} {figures[name].value:.3f} of {least:g}")
        for name, least in terms.required.items()
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


def _beats(
    model_dir: Path, old: Manifest, held_out: Predictions, images: Images
) -> tuple[bool, str]:
    """Whether the AUC on the same patients is higher.

    The old model may have learned from some of them, which makes it harder to beat.
    """
    if old.classes != held_out.classes or old.findings != held_out.findings:
        raise ValueError(
            f"--replaces {model_dir}: its classes are {', '.join(old.classes)}, with "
            f"{', '.join(old.findings)} as findings; the new model's are "
            f"{', '.join(held_out.classes)} and {', '.join(held_out.findings)}"
        )
    size = (old.preparation.height, old.preparation.width)
    if size != images.shape[1:3]:
        raise ValueError(
            f"--replaces {model_dir} takes images of {size[0]} × {size[1]}, the new "
            f"model {images.shape[1]} × {images.shape[2]}: compare them with "
            "`python -m trainer compare`"
        )
    model = saved_model.load(model_dir)
    starts = range(0, len(images), _BATCH)
    logits = np.concatenate(
        [model.infer(images[start : start + _BATCH]).logits for start in starts]
    )
    chances = probabilities(logits, old.calibration.temperature, held_out.task)
    indices = list(old.finding_indices)
    total = np.max if held_out.task == "multilabel" else np.sum
    before = float(
        roc_auc_score(held_out.positives, total(chances[:, indices], axis=1))
    )
    now = float(roc_auc_score(held_out.positives, held_out.scores))
    return now > before, f"AUC {now:.4f} against {before:.4f} of {old.name}"
