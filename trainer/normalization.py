"""Fused batch normalization for networks that run on a CPU.

Keras writes BatchNormalization as a dozen operations, each of which reads and writes
all features anew. TensorFlow has one, FusedBatchNormV3. It takes much less of an epoch,
and grappler can fuse it with the convolution before it when a model is served
(`benchmarks/normalization.py`).

On a GPU it has no deterministic gradient in inference mode
(tensorflow/tensorflow#50505), and a run that was killed is to go on as if it had not
been: Keras's own stays there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, to rounding: the same weights, statistics and answers.

    It is made for float32 features, (batch, height, width, channels).
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize, by the batch while it learns, and by the statistics otherwise."""
        learns = bool(training and self.trainable)
        output, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma if self.scale else tf.ones_like(self.moving_mean),
            offset=self.beta if self.center else tf.zeros_like(self.moving_mean),
            mean=[] if learns else self.moving_mean,
            variance=[] if learns else self.moving_variance,
            epsilon=self.epsilon,
            is_training=learns,
        )
        if learns:
            # The operation estimates the population's; Keras keeps the batch's own.
            of_each = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
            self._keep(self.moving_mean, mean)
            self._keep(self.moving_variance, variance * (of_each - 1) / of_each)
        return output

    def _keep(self, moving: Any, of_batch: tf.Tensor) -> None:
        moving.assign(moving * self.momentum + of_batch * (1 - self.momentum))


def fused(network: keras.Model) -> keras.Model:
    """A copy of a network, with fused layers wherever they do what Keras's do."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = FusedBatchNormalization if _can_be_fused(layer) else type(layer)
        return kind.from_config(layer.get_config())

    return _copy(network, copied)


def plain(network: keras.Model) -> keras.Model:
    """A copy of what `fused` made, with Keras's own layers again."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        is_fused = isinstance(layer, FusedBatchNormalization)
        kind = keras.layers.BatchNormalization if is_fused else type(layer)
        return kind.from_config(layer.get_config())

    return _copy(network, copied)


def _can_be_fused(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.input_spec.ndim == 4
        and layer.axis in (-1, 3)
        and layer.compute_dtype == "float32"
        and not (layer.renorm or layer.synchronized)
    )


def _copy(
    network: keras.Model,
    copied: Callable[[keras.layers.Layer], keras.layers.Layer],
) -> keras.Model:
    copy = keras.models.clone_model(network, clone_function=copied)
    copy.set_weights(network.get_weights())
    for layer in copy.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return copy
