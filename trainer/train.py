"""One training run from a data set to a model directory, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from beam_pipeline.manifest import Manifest
from trainer import (
    architectures,
    describe,
    export,
    members,
    model_card,
    recipes,
    teacher,
)
from trainer import run as runs
from trainer.evaluation import out_of_fold, predictions
from trainer.evaluation.predictions import Predictions
from trainer.fit import Lessons
from trainer.run import Data, Run, Setting
from trainer.serving import Scorer

_COMPARED = 64


def train(run: Run) -> Manifest:
    """Train, calibrate, choose thresholds, evaluate and export; the model's manifest.

    Training patients teach; validation patients stop the training and choose the
    temperature, the thresholds and the quantiles of the outlier score; held-out
    patients give the figures in the manifest and the blessing.

    A run that was interrupted goes on where it stopped when it is started again.

    Raises:
        DatasetError: the data cannot be trained on.
        FileExistsError: there is a model already where this one should go, or what an
            interrupted run of other arguments left.
        ExportError: the model on disk differs from the trained one.
    """
    keras.utils.set_random_seed(run.seed)
    tf.config.experimental.enable_op_determinism()
    architectures.require(run.recipe)
    data = runs.read(run)
    if run.tuned_on:
        # What is wrong with them is to be told now, not after hours.
        out_of_fold.pooled(run.tuned_on, data)
    runs.claim(run, data)
    learned = lessons(run, data)
    trained = [
        members.train(run, data, learned, number)
        for number in range(run.recipe.members)
    ]
    scorer = members.combined(trained, mirrored=run.recipe.test_time_augmentation)
    manifest, found = describe.describe(run, data, scorer, recipes.plain(run.recipe))
    # Before the model: once that is there, the run is done and does not go on.
    if run.also_keras:
        members.save_keras(trained, manifest.calibration.temperature, run.output)
    _leave(run, data, scorer, manifest, found)
    return manifest


def finish(
    setting: Setting, data: Data, scorer: Scorer, recipe: Mapping[str, Any]
) -> Manifest:
    """Calibrate, choose thresholds, evaluate and export a scorer; its manifest.

    Args:
        setting: where it goes.
        data: whose validation patients choose, and whose held-out patients judge.
        scorer: what answers.
        recipe: how it was made, for the manifest.

    Raises:
        ExportError: the model on disk differs from the scorer.
    """
    manifest, found = describe.describe(setting, data, scorer, recipe)
    _leave(setting, data, scorer, manifest, found)
    return manifest


def _leave(
    setting: Setting,
    data: Data,
    scorer: Scorer,
    manifest: Manifest,
    found: Predictions,
) -> None:
    """Write the predictions, and then the model."""
    setting.logs.mkdir(parents=True, exist_ok=True)
    predictions.save(found, setting.logs / predictions.FILE)
    compared = data.pixels[data.rows("held_out")[:_COMPARED]]
    card = model_card.text(manifest, found.part("held_out"))
    export.export(scorer, manifest, setting.output, compared, {model_card.FILE: card})


def lessons(run: Run, data: Data) -> Lessons:
    """What the networks of a run learn from, and what they watch to stop.

    Raises:
        ValueError: a teacher that does not fit; see `teacher.targets`.
    """
    return Lessons(
        task=data.examples.task,
        pixels=data.pixels,
        labels=data.examples.labels,
        targets=teacher.targets(
            data, run.preparation, run.teacher, run.recipe.distillation
        ),
        training=data.rows("training"),
        validation=data.rows("validation"),
    )
