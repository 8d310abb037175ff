"""What the models of several folds said of the patients that each held out, as one.

A threshold chosen on a tenth of the patients is as uncertain as they are few. Models of
the same recipe, each trained without one fold of the patients, give a score to every
patient that no model learned from: thresholds chosen on those rest on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.evaluation import predictions
from trainer.evaluation.predictions import Predictions
from trainer.run import Data


def pooled(files: Sequence[Path], data: Data) -> Predictions:
    """What the folds' models say of their held-out images, calibrated each by itself.

    Args:
        files: `predictions.parquet` of each fold.
        data: whose held-out patients are to judge the thresholds, and therefore may
            not choose them: they are left out.

    Raises:
        ValueError: predictions that `train` did not write, or of other classes, an
            image that two folds held out, nobody left, or images of one kind only.
    """
    folds = [_held_out(path, data) for path in files]
    names = np.concatenate([fold.names for fold in folds])
    if len(set(names.tolist())) < len(names):
        raise ValueError(
            "--tuned_on: two of the folds held out the same images; give one fold of "
            "each kind, as `train --fold K/N` made them"
        )
    patients = np.concatenate([fold.patients for fold in folds])
    judging = data.examples.chosen(data.parts == "held_out")
    # The same image may go by another patient where files were named otherwise.
    left = ~np.isin(patients, judging.patients) & ~np.isin(names, judging.names())
    if not left.any():
        raise ValueError("--tuned_on: no images are left besides the held-out ones")
    everything = replace(
        folds[0],
        names=names,
        labels=np.concatenate([fold.labels for fold in folds]),
        logits=np.concatenate([fold.logits for fold in folds]),
        patients=patients,
        parts=np.concatenate([fold.parts for fold in folds]),
        columns={},
        spread=None,
    )
    return _of_both_kinds(everything.chosen(left))


def _of_both_kinds(found: Predictions) -> Predictions:
    if found.task == "multilabel":
        decided = dict(zip(found.classes, found.labels.T, strict=True))
    else:
        decided = {"a finding": found.positives}
    for name, positives in decided.items():
        if positives.all() or not positives.any():
            raise ValueError(
                f"--tuned_on: the {len(found)} images left all show {name}, or none "
                "does; a threshold needs both"
            )
    return found


def _held_out(path: Path, data: Data) -> Predictions:
    everything = predictions.load(path)
    if not everything.is_of_training:
        raise ValueError(
            f"--tuned_on {path} does not tell from whom its model learned; give the "
            "predictions.parquet that `python -m trainer train --fold K/N` writes"
        )
    found = everything.part("held_out")
    asked = {
        "task": data.examples.task,
        "classes": data.examples.classes,
        "findings": data.findings,
    }
    for name, needed in asked.items():
        if getattr(found, name) != needed:
            raise ValueError(
                f"--tuned_on {path} differs in {name}: {getattr(found, name)}, not "
                f"{needed}"
            )
    # Divided by its own temperature, each fold's logits mean the same.
    return replace(found, logits=found.logits / found.temperature, temperature=1.0)
