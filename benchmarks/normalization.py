"""What a step of training and a served batch cost with fused normalization.

    python -m benchmarks.normalization

Two networks of random weights, alternating in one process: MobileNet with Keras's
BatchNormalization and with `trainer.normalization.FusedBatchNormalization`. Once with
statistics that learn, as from random weights, and once in inference mode, as with
weights from ImageNet; then a batch of 32 through both as SavedModels.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from trainer import normalization

_BATCH = 32
_ROUNDS = 12


def network() -> keras.Model:
    """MobileNet at 224 × 224, from image to its 1,024 features."""
    return keras.applications.MobileNet(
        include_top=False, weights=None, input_shape=(224, 224, 3), pooling="avg"
    )


def step(of: keras.Model, *, learns: bool, images: tf.Tensor) -> Callable[[], object]:
    """One step of Adam; `learns`: of the statistics too."""
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(of.trainable_variables)

    @tf.function
    def run() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(of(images, training=learns) ** 2)
        optimizer.apply(tape.gradient(loss, of.trainable_variables))

    return run


def served(of: keras.Model, folder: Path, images: tf.Tensor) -> Callable[[], object]:
    """A batch through the network as it is loaded from disk."""
    module = tf.Module()
    module.network = of
    spec = tf.TensorSpec((None, *images.shape[1:]), name="image")
    serve = tf.function(
        lambda image: {"features": of(image, training=False)}, input_signature=[spec]
    )
    tf.saved_model.save(module, str(folder), {"serving_default": serve})
    loaded = tf.saved_model.load(str(folder))
    return lambda: loaded.signatures["serving_default"](images)


def alternating(first: Callable[[], object], second: Callable[[], object]) -> str:
    """The best of several rounds of each, after two that warm up, and their ratio."""
    taken: list[list[float]] = [[], []]
    for _ in range(_ROUNDS + 2):
        for times, run in zip(taken, (first, second), strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    keras_own, ours = (min(times[2:]) for times in taken)
    return f"{1000 * keras_own:7.0f} ms {1000 * ours:7.0f} ms {keras_own / ours:6.2f}"


def main() -> None:
    """Print the three comparisons."""
    images = tf.random.stateless_uniform((_BATCH, 224, 224, 3), seed=(1, 2))
    theirs = network()
    pair = (theirs, normalization.fused(theirs))
    print(f"{'':20}{'Keras':>10}{'fused':>11}{'ratio':>7}")
    for name, learns in (("statistics learn", True), ("inference mode", False)):
        steps = [step(of, learns=learns, images=images) for of in pair]
        print(f"{name:20}{alternating(*steps)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        models = [
            served(of, Path(folder, str(number)), images)
            for number, of in enumerate(pair)
        ]
        print(f"{'served':20}{alternating(*models)}")


if __name__ == "__main__":
    main()
