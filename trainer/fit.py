"""Two stages of training: the head alone, then the whole network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from trainer import architectures
from trainer.recipes import Recipe


@dataclass(frozen=True)
class Batches:
    """What `fit` learns from, and what it watches to stop.

    Attributes:
        training: augmented (image, label) batches.
        validation: plain (image, label) batches of other patients.
        class_weights: the weight of each label in the loss.
    """

    training: tf.data.Dataset
    validation: tf.data.Dataset
    class_weights: dict[int, float]


@dataclass(frozen=True)
class _Stage:
    name: str
    whole_network: bool
    learning_rate: float
    epochs: int


def fit(network: keras.Model, batches: Batches, recipe: Recipe, logs: Path) -> None:
    """Train `network` in place, and leave it with its best weights.

    Best is the lowest validation loss over both stages. `logs` receives the best
    weights and, for each stage, a CSV file of its epochs.
    """
    classifier = keras.Model(network.input, network.outputs[0])
    best = logs / "best.weights.h5"
    # An earlier run that failed may have left one.
    best.unlink(missing_ok=True)
    lowest_loss = np.inf
    for stage in _stages(recipe):
        architectures.backbone_of(network).trainable = stage.whole_network
        classifier.compile(
            optimizer=keras.optimizers.Adam(stage.learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            # Keras would choose XLA, which on a CPU is slower by far than oneDNN.
            jit_compile=False,
        )
        history = classifier.fit(
            batches.training,
            validation_data=batches.validation,
            epochs=stage.epochs,
            class_weight=batches.class_weights,
            shuffle=False,  # the batches are, with a seed
            callbacks=[
                _checkpoint(best, lowest_loss),
                *_callbacks(recipe, logs / f"{stage.name}.csv"),
            ],
        )
        lowest_loss = min(lowest_loss, *history.history["val_loss"])
    # The file holds the optimizer of its stage too, which is not that of the last one.
    # A model that is not compiled has none, and shares the network's weights.
    keras.Model(network.input, network.outputs[0]).load_weights(best)


def balanced_weights(labels: NDArray[np.int64]) -> dict[int, float]:
    """Weights that let every class count the same, with a mean of 1 over the images."""
    classes = np.unique(labels)
    weights = compute_class_weight("balanced", classes=classes, y=labels)
    return dict(zip(classes.tolist(), weights.tolist(), strict=True))


def _stages(recipe: Recipe) -> list[_Stage]:
    head = _Stage("head", False, recipe.head_learning_rate, recipe.head_epochs)
    fine_tune = _Stage(
        "fine_tune", True, recipe.fine_tune_learning_rate, recipe.fine_tune_epochs
    )
    return [stage for stage in (head, fine_tune) if stage.epochs]


def _callbacks(recipe: Recipe, log: Path) -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.EarlyStopping(patience=recipe.early_stopping_patience),
        keras.callbacks.ReduceLROnPlateau(
            factor=0.5, patience=recipe.reduce_lr_patience
        ),
        keras.callbacks.CSVLogger(log),
    ]


def _checkpoint(best: Path, lowest_loss: float) -> keras.callbacks.Callback:
    return keras.callbacks.ModelCheckpoint(
        best,
        save_best_only=True,
        save_weights_only=True,
        initial_value_threshold=lowest_loss,
    )
