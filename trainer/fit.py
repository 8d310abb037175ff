"""Training, stage by stage and epoch by epoch, so that it can go on where it stopped.

After each epoch everything that the next one depends on is in one file: the weights,
the optimizer, the state of what is random, and the figures so far, from which the
callbacks learn again what they knew. A run that was killed and started again gives the
weights, to the byte, of one that was not.
"""

from __future__ import annotations

import csv
import json
import math
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from trainer import architectures, augment
from trainer.data import pixels
from trainer.data.dataset import Labels, Task
from trainer.data.pixels import Images
from trainer.progress import Progress
from trainer.recipes import Recipe, Stage

Rows = NDArray[np.int64]
Figures = dict[str, float]

_CHECKPOINT = "checkpoint.npz"
_BEST = "best.npz"


@dataclass(frozen=True)
class Lessons:
    """What `fit` learns from, and what it watches to stop.

    Attributes:
        task: decides between softmax and sigmoid.
        pixels: uint8, (images, height, width, 1).
        labels: bool, (images, classes).
        targets: float32, (images, classes): labels, or what a teacher makes of them.
        training: rows to learn from.
        validation: rows of other patients.
    """

    task: Task
    pixels: Images
    labels: Labels
    targets: NDArray[np.float32]
    training: Rows
    validation: Rows


def fit(
    network: keras.Model,
    lessons: Lessons,
    recipe: Recipe,
    *,
    seed: int,
    logs: Path,
    progress: Progress,
) -> list[Figures]:
    """Train `network` in place, leave it with its best weights; the figures by epoch.

    Best is the lowest validation loss, or the highest AUC, over all stages. `logs`
    receives checkpoints, the best weights, `history.csv` and TensorBoard's events; what
    an earlier call with the same arguments left there is gone on from.
    """
    logs.mkdir(parents=True, exist_ok=True)
    fitting = _Fitting(network, lessons, recipe, seed, logs, progress)
    for number, stage in enumerate(recipe.stages):
        if stage.epochs and number >= fitting.stage_reached:
            fitting.run(number, stage)
    fitting.classifier.set_weights(_read(logs / _BEST)[0])
    return fitting.history


class _Fitting:
    """One run of `fit`: the network, and the figures of the epochs behind it."""

    def __init__(
        self,
        network: keras.Model,
        lessons: Lessons,
        recipe: Recipe,
        seed: int,
        logs: Path,
        progress: Progress,
    ) -> None:
        self.network = network
        self.classifier = keras.Model(network.input, network.outputs[0])
        self.lessons = lessons
        self.recipe = recipe
        self.seed = seed
        self.logs = logs
        self.progress = progress
        self.history: list[Figures] = []
        self._arrays: list[NDArray[Any]] = []
        if (logs / _CHECKPOINT).exists():
            self._arrays, about = _read(logs / _CHECKPOINT)
            self.history = about["history"]
        _steps(progress, recipe, lessons, len(self.history))

    @property
    def stage_reached(self) -> int:
        return int(self.history[-1]["stage"]) if self.history else 0

    def run(self, number: int, stage: Stage) -> None:
        architectures.unfreeze(self.network, stage.unfrozen)
        self._compile(stage)
        behind = [f for f in self.history if f["stage"] == number]
        callbacks = self._callbacks(behind)
        if self._arrays and behind:
            _assign(self._variables(), self._arrays)
        self._arrays = []
        for epoch in range(len(behind), stage.epochs):
            if self.classifier.stop_training:
                break
            self._epoch(number, stage, epoch, callbacks)
        self.progress.skip_to(sum(s.epochs for s in self.recipe.stages[: number + 1]))

    def _epoch(
        self, number: int, stage: Stage, epoch: int, callbacks: keras.callbacks.Callback
    ) -> None:
        if self.recipe.schedule == "cosine":
            fall = 0.5 * (1 + math.cos(math.pi * epoch / stage.epochs))
            self.classifier.optimizer.learning_rate.assign(stage.learning_rate * fall)
        watch = _Watch(self.progress)
        done = self.classifier.fit(
            self._batches(len(self.history)),
            verbose=0,
            callbacks=[watch],
            shuffle=False,  # the rows are, with a seed
        )
        figures = {
            "stage": number,
            "epoch": len(self.history),
            "learning_rate": float(self.classifier.optimizer.learning_rate.numpy()),
            "loss": float(done.history["loss"][0]),
        }
        figures |= self._validate()
        if self._is_best(figures):
            _write(self.logs / _BEST, self.classifier.get_weights(), {})
        self.classifier.set_weights(watch.weights)
        self.history.append(figures)
        callbacks.on_epoch_end(epoch, figures)
        # Before the checkpoint: an epoch that is done is not written again.
        _write_history(self.logs / "history.csv", self.history)
        _write(
            self.logs / _CHECKPOINT,
            [variable.numpy() for variable in self._variables()],
            {"history": self.history},
        )
        self._log(figures)

    def _compile(self, stage: Stage) -> None:
        recipe = self.recipe
        kinds = {
            "adam": keras.optimizers.Adam,
            "sgd": keras.optimizers.SGD,
            "rmsprop": keras.optimizers.RMSprop,
        }
        optimizer = kinds[recipe.optimizer](
            stage.learning_rate,
            weight_decay=recipe.weight_decay or None,
            use_ema=recipe.weight_average > 0,
            ema_momentum=recipe.weight_average,
        )
        weights = np.ones(self.lessons.labels.shape[1], np.float32)
        if recipe.imbalance == "class_weights":
            labels = self.lessons.labels[self.lessons.training]
            weights = balanced_weights(labels, self.lessons.task)
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        self.classifier.compile(
            optimizer=optimizer,
            loss=loss(self.lessons.task, weights),
            # Keras would choose XLA, which on a CPU is slower by far than oneDNN.
            jit_compile="auto" if on_gpu else False,
        )
        optimizer.build(self.classifier.trainable_variables)
        self.classifier.stop_training = False

    def _callbacks(self, behind: Sequence[Figures]) -> keras.callbacks.CallbackList:
        """Keras's own, told again what they saw before a run was interrupted."""
        recipe = self.recipe
        watched = {
            "monitor": f"val_{recipe.monitor}",
            "mode": "min" if recipe.monitor == "loss" else "max",
        }
        chosen = [
            keras.callbacks.EarlyStopping(
                **watched, patience=recipe.early_stopping_patience
            )
        ]
        if recipe.schedule == "plateau":
            chosen.append(
                keras.callbacks.ReduceLROnPlateau(
                    **watched, factor=0.5, patience=recipe.reduce_lr_patience
                )
            )
        callbacks = keras.callbacks.CallbackList(chosen, model=self.classifier)
        callbacks.on_train_begin()
        for epoch, figures in enumerate(behind):
            callbacks.on_epoch_end(epoch, dict(figures))
        return callbacks

    def _variables(self) -> list[Any]:
        return [*self.classifier.variables, *self.classifier.optimizer.variables]

    def _batches(self, epoch: int) -> tf.data.Dataset:
        lessons, recipe = self.lessons, self.recipe
        rows = epoch_rows(lessons, recipe, self.seed, epoch)
        targets = smoothed(lessons.targets, recipe.label_smoothing, lessons.task)
        plain = pixels.batches(lessons.pixels, targets, rows, recipe.batch_size)
        return augment.augmented(plain, recipe.augmentation, self.seed, epoch)

    def _validate(self) -> Figures:
        rows = self.lessons.validation
        found = logits(
            self.classifier, self.lessons.pixels, rows, self.recipe.batch_size
        )
        if not np.isfinite(found).all():
            raise ValueError(
                "the network's answers are no numbers any more; a lower learning rate "
                "may help, as in --set stages.0.learning_rate=1e-5"
            )
        return validation_figures(found, self.lessons.labels[rows], self.lessons.task)

    def _is_best(self, figures: Figures) -> bool:
        name = f"val_{self.recipe.monitor}"
        earlier = [past[name] for past in self.history]
        if self.recipe.monitor == "loss":
            return figures[name] < min(earlier, default=math.inf)
        return figures[name] > max(earlier, default=-math.inf)

    def _log(self, figures: Figures) -> None:
        events = tf.summary.create_file_writer(str(self.logs / "tensorboard"))
        with events.as_default(step=int(figures["epoch"])):
            for name, value in figures.items():
                tf.summary.scalar(name, value)
        events.close()
        self.progress.epoch_done(figures)


def logits(
    classifier: keras.Model, images: Images, rows: Rows, batch_size: int
) -> NDArray[np.float32]:
    """The logits of these rows, float32, (rows, classes)."""
    unlabelled = np.zeros((len(images), 1), np.float32)
    batches = pixels.batches(images, unlabelled, rows, batch_size)
    return np.asarray(classifier.predict(batches, verbose=0))


def epoch_rows(lessons: Lessons, recipe: Recipe, seed: int, epoch: int) -> Rows:
    """The training rows in the order of one epoch, which depends on nothing else."""
    random = np.random.default_rng([seed, epoch])
    rows = lessons.training
    if recipe.imbalance != "balanced_sampling":
        return random.permutation(rows)
    first = lessons.labels[rows].argmax(axis=1)
    first[~lessons.labels[rows].any(axis=1)] = -1
    kinds, kind_of, counts = np.unique(first, return_inverse=True, return_counts=True)
    chance = 1 / (len(kinds) * counts[kind_of])
    return random.choice(rows, size=len(rows), p=chance)


def balanced_weights(labels: Labels, task: Task) -> NDArray[np.float32]:
    """The weight of each class in the loss, (classes,).

    Classes of which an image has one count the same together, with a mean weight of 1
    over the images. Of those of which it may have several, the positives of each count
    as much as its negatives.
    """
    counts = np.maximum(labels.sum(axis=0), 1)
    if task == "multilabel":
        weights = ((len(labels) - counts) / counts).clip(0.1, 10)
    else:
        weights = len(labels) / (len(counts) * counts)
    return np.asarray(weights, np.float32)


def smoothed(
    targets: NDArray[np.float32], share: float, task: Task
) -> NDArray[np.float32]:
    """Targets of which a share is spread over all classes (Szegedy et al. 2016)."""
    spread = 0.5 if task == "multilabel" else 1 / targets.shape[1]
    return ((1 - share) * targets + share * spread).astype(np.float32)


def loss(task: Task, weights: NDArray[np.float32]) -> Callable[..., tf.Tensor]:
    """Cross-entropy of targets and logits, each class with its weight."""

    def softmax_loss(targets: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        terms = weights * targets * tf.nn.log_softmax(tf.cast(found, tf.float32))
        return -tf.reduce_sum(terms, axis=-1)

    def sigmoid_loss(targets: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        terms = tf.nn.weighted_cross_entropy_with_logits(
            targets, tf.cast(found, tf.float32), weights
        )
        return tf.reduce_mean(terms, axis=-1)

    return sigmoid_loss if task == "multilabel" else softmax_loss


def validation_figures(
    found: NDArray[np.float32], labels: Labels, task: Task
) -> Figures:
    """`val_loss`, without weights, and `val_auc`, the mean over classes."""
    exact = found.astype(np.float64)
    if task == "multilabel":
        terms = np.logaddexp(0, np.where(labels, -exact, exact))
        mean_loss = float(terms.mean())
    else:
        chances = np.exp(exact - np.logaddexp.reduce(exact, axis=1, keepdims=True))
        answers = labels.argmax(axis=1)
        every = list(range(labels.shape[1]))
        mean_loss = float(log_loss(answers, chances, labels=every))
        exact = chances
    judged = [
        roc_auc_score(labels[:, index], exact[:, index])
        for index in range(labels.shape[1])
        if 0 < labels[:, index].sum() < len(labels)
    ]
    return {"val_loss": mean_loss, "val_auc": float(np.mean(judged)) if judged else 0.5}


class _Watch(keras.callbacks.Callback):
    """Tells of each step, and keeps the weights after the last one.

    Keras puts the averages, where there are any, in their place once it has fitted.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self.weights: list[NDArray[Any]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._progress.step()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.weights = self.model.get_weights()


def _steps(
    progress: Progress, recipe: Recipe, lessons: Lessons, epochs_done: int
) -> None:
    per_epoch = math.ceil(len(lessons.training) / recipe.batch_size)
    epochs = sum(stage.epochs for stage in recipe.stages)
    progress.begin(per_epoch, epochs, epochs_done)


def _assign(variables: Sequence[Any], arrays: Sequence[NDArray[Any]]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _write(path: Path, arrays: Sequence[NDArray[Any]], about: dict[str, Any]) -> None:
    """`arrays` and `about` in one file that appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with partial.open("wb") as stream:
        np.savez(stream, text, *arrays)
        stream.flush()
        os.fsync(stream.fileno())
    partial.rename(path)


def _read(path: Path) -> tuple[list[NDArray[Any]], Any]:
    try:
        # Opened here: NumPy leaves a file open that it cannot read.
        with path.open("rb") as stream, np.load(stream) as file:
            text, *arrays = [file[f"arr_{index}"] for index in range(len(file.files))]
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise OSError(f"{path} is damaged; remove its folder and train anew") from error
    return arrays, json.loads(text.tobytes())


def _write_history(path: Path, history: Sequence[Figures]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=list(history[0]))
        table.writeheader()
        table.writerows(history)
    partial.rename(path)
