"""What share of an epoch is spent on getting images, once they are decoded?

    python -m benchmarks.input_cost ../shared/data/chest_xray_224 [--recipe NAME]

Times, on the same images: all of them read from the cache in random order; the same,
augmented; and the training step, on so many batches that its time for all of them can
be told. Input and steps run one after the other here; in training they overlap.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from beam_pipeline.manifest import Preparation
from trainer import architectures, augment, fit, recipes
from trainer.data import dataset, pixels
from trainer.data.dataset import Naming

_STEPS = 12


def seconds(batches: tf.data.Dataset) -> float:
    """To draw all of them."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def main() -> None:
    """Print the times and shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="mobilenet")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/results/cache"))
    arguments = parser.parse_args()
    recipe = recipes.load(arguments.recipe)
    examples = dataset.find(arguments.data, Naming())
    side = Preparation(height=recipe.image_size, width=recipe.image_size)
    start = time.perf_counter()
    images = pixels.read(examples, side, arguments.cache)
    print(
        f"{len(images)} images decoded or mapped: {time.perf_counter() - start:.1f} s"
    )
    targets = examples.labels.astype(np.float32)
    rows = np.random.default_rng(0).permutation(len(images))
    plain = pixels.batches(images, targets, rows, recipe.batch_size)
    varied = augment.augmented(plain, recipe.augmentation, 1, 0)
    whole = epoch(recipe, varied, len(images))
    for name, batches in {"from the cache": plain, "and augmented": varied}.items():
        taken = min(seconds(batches) for _ in range(2))
        print(
            f"{name}: {taken:.1f} s, {taken / whole:.1%} of an epoch of {whole:.0f} s"
        )


def epoch(recipe: recipes.Recipe, batches: tf.data.Dataset, count: int) -> float:
    """Seconds of the training steps of the recipe's last stage for so many images."""
    network = architectures.build(recipe, 2, None)
    architectures.unfreeze(network, recipe.stages[-1].unfrozen)
    classifier = keras.Model(network.input, network.outputs[0])
    weights = np.ones(2, np.float32)
    classifier.compile(
        keras.optimizers.Adam(), fit.loss("binary", weights), jit_compile=False
    )
    few = [batch for batch, _ in zip(batches, range(_STEPS), strict=False)]
    classifier.train_on_batch(*few[0])
    start = time.perf_counter()
    for image, target in few:
        classifier.train_on_batch(image, target)
    return (time.perf_counter() - start) / _STEPS * count / recipe.batch_size


if __name__ == "__main__":
    main()
