"""Augmentation as a layer: the same variations for every recipe, from its numbers."""

from __future__ import annotations

import keras
import tensorflow as tf

from trainer.recipes import Augmentation


def augmenter(augmentation: Augmentation, seed: int) -> keras.Sequential:
    """A model that varies float32 images (batch, height, width, 1) of range 0–255.

    What moves in from outside the picture is black, as air beside a patient is.
    """
    shift, zoom = augmentation.shift, augmentation.zoom
    outside = {"fill_mode": "constant", "fill_value": 0.0}
    layers = keras.layers
    variations = [
        layers.RandomRotation(augmentation.rotation / 360, seed=seed, **outside),
        layers.RandomTranslation(shift, shift, seed=seed + 1, **outside),
        layers.RandomZoom(zoom, seed=seed + 2, **outside),
        layers.RandomBrightness(augmentation.brightness, seed=seed + 3),
        layers.RandomContrast(augmentation.contrast, (0, 255), seed=seed + 4),
    ]
    if augmentation.horizontal_flip:
        variations.append(layers.RandomFlip("horizontal", seed=seed + 5))
    return keras.Sequential(variations, name="augmentation")


def augmented(
    batches: tf.data.Dataset, augmentation: Augmentation, seed: int
) -> tf.data.Dataset:
    """`batches` of (uint8 image, label) as (varied float32 image, label).

    One call at a time, so that a seed gives the same images again; it runs beside the
    training step and costs a fraction of it.
    """
    vary = augmenter(augmentation, seed)

    def apply(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return vary(tf.cast(image, tf.float32), training=True), label

    return batches.map(apply, num_parallel_calls=1).prefetch(2)
