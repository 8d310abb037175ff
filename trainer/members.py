"""One network of a run, from its seed to what can be served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from trainer import architectures, augment, fit, outlier
from trainer.architectures import Weights
from trainer.data import pixels
from trainer.evaluation import calibrate, figures
from trainer.fit import Figures, Lessons
from trainer.outlier import OutlierScore
from trainer.progress import Progress
from trainer.recipes import Recipe
from trainer.run import Data, Run
from trainer.serving import Ensemble, Mirrored, Network, Scorer

CURVES = "training_curves.png"


def train(run: Run, data: Data, lessons: Lessons, number: int) -> Network:
    """The trained network of that number, from 0 on; calibrated if there are several.

    It lies in `run.logs`, from where an interrupted training goes on.
    """
    recipe, seed = run.recipe, run.seed + number
    logs = run.logs / f"member-{number + 1}"
    network, history = fitted(
        recipe,
        lessons,
        run.weights,
        seed=seed,
        logs=logs,
        title=f"{recipe.backbone} {number + 1} of {recipe.members}",
    )
    figures.training_curves(history).savefig(logs / CURVES)
    _centre(network, lessons, recipe)
    return Network(
        network,
        data.shape,
        _outlier_score(run, lessons, network, seed).in_graph,
        _temperature(network, lessons, recipe) if recipe.members > 1 else 1.0,
    )


def fitted(
    recipe: Recipe,
    lessons: Lessons,
    weights: Weights,
    *,
    seed: int,
    logs: Path,
    title: str,
) -> tuple[keras.Model, list[Figures]]:
    """A network with its best weights, in float32 on one device, and its epochs.

    `logs` is as of `fit.fit`, `weights` as of `architectures.build`.
    """
    classes = lessons.labels.shape[1]
    keras.utils.set_random_seed(seed)
    strategy = _strategy()
    with strategy.scope(), _precision(recipe) as precision:
        network = architectures.build(recipe, classes, weights)
        with Progress(title) as progress:
            history = fit.fit(
                network, lessons, recipe, seed=seed, logs=logs, progress=progress
            )
    if strategy.num_replicas_in_sync > 1 or precision != "float32":
        trained = network.get_weights()
        network = architectures.build(recipe, classes, weights)
        network.set_weights(trained)
    return network, history


def combined(members: Sequence[Scorer], *, mirrored: bool) -> Scorer:
    """What answers for all of them: an average, where there are several."""
    scorer = members[0] if len(members) == 1 else Ensemble(members)
    return Mirrored(scorer) if mirrored else scorer


def save_keras(members: Sequence[Network], temperature: float, output: Path) -> None:
    """Write each network as `OUTPUT.keras`, `OUTPUT.member-2.keras` … beside a model.

    Keras loads them without this package. They give probabilities: those of the only
    member at `temperature`, as the exported model's are; of several, each at its own.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    for number, member in enumerate(members, start=1):
        suffix = ".keras" if number == 1 else f".member-{number}.keras"
        of = temperature if len(members) == 1 else member.temperature
        network = architectures.plain(member.network, member.shape.task, of)
        whole = output.with_name(output.name + suffix)
        partial = whole.with_name(f"partial.{whole.name}")
        network.save(partial)
        partial.rename(whole)


def _strategy() -> tf.distribute.Strategy:
    """All GPUs of this machine, or its one device."""
    several = len(tf.config.list_logical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()


@contextmanager
def _precision(recipe: Recipe) -> Iterator[str]:
    """Keras's policy while a network is built: float16 on a GPU, if it may be."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    policy = "mixed_float16" if on_gpu and recipe.mixed_precision else "float32"
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        yield policy
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def _centre(network: keras.Model, lessons: Lessons, recipe: Recipe) -> None:
    """Move the logits so that a temperature alone calibrates them."""
    rows = lessons.validation
    classifier = keras.Model(network.input, network.outputs[0])
    found = fit.logits(classifier, lessons.pixels, rows, recipe.batch_size)
    last = network.get_layer("head").get_layer("logits")
    kernel, bias = last.get_weights()
    shift = calibrate.offsets(found, lessons.labels[rows], lessons.task)
    last.set_weights([kernel, (bias + shift).astype(np.float32)])


def _temperature(network: keras.Model, lessons: Lessons, recipe: Recipe) -> float:
    rows = lessons.validation
    classifier = keras.Model(network.input, network.outputs[0])
    found = fit.logits(classifier, lessons.pixels, rows, recipe.batch_size)
    return calibrate.temperature(found, lessons.labels[rows], lessons.task)


def _outlier_score(
    run: Run, lessons: Lessons, network: keras.Model, seed: int
) -> OutlierScore:
    rows = np.random.default_rng(seed).permutation(lessons.training)
    size = run.recipe.batch_size
    plain = pixels.batches(lessons.pixels, lessons.targets, rows, size)
    # An epoch that training never reaches: other variations than it has seen.
    epoch = sum(stage.epochs for stage in run.recipe.stages)
    varied = augment.augmented(plain, run.recipe.augmentation, seed, epoch)
    return outlier.fit(network, plain, varied)
