"""One training run from a data set to a model directory, step by step."""

from __future__ import annotations

import keras
import tensorflow as tf

from beam_pipeline.manifest import Manifest
from trainer import (
    architectures,
    blessing,
    describe,
    export,
    members,
    predictions,
    teacher,
)
from trainer import run as runs
from trainer.fit import Lessons
from trainer.run import Data, Run

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
    blessing.require(run.terms, data.examples.classes, data.findings, run.preparation)
    runs.claim(run, data)
    lessons = _lessons(run, data)
    trained = [
        members.train(run, data, lessons, number)
        for number in range(run.recipe.members)
    ]
    scorer = members.combined(trained, mirrored=run.recipe.test_time_augmentation)
    manifest, found = describe.describe(run, data, scorer)
    predictions.save(found, run.logs / predictions.FILE)
    compared = data.pixels[data.rows("held_out")[:_COMPARED]]
    export.export(scorer, manifest, run.output, compared)
    return manifest


def _lessons(run: Run, data: Data) -> Lessons:
    return Lessons(
        task=data.examples.task,
        pixels=data.pixels,
        labels=data.examples.labels,
        targets=teacher.targets(
            data.examples,
            data.pixels,
            run.preparation,
            run.teacher,
            run.recipe.distillation,
        ),
        training=data.rows("training"),
        validation=data.rows("validation"),
    )
