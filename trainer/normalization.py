"""BatchNormalization in TensorFlow's one operation for it.

Keras writes it as a dozen operations, each of which reads and writes all features
anew. On a CPU that is much of an epoch (`benchmarks/normalization.py`), and TensorFlow
finds no convolution with its normalization in them that it could serve as one.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, to rounding: the same weights, statistics and answers."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize features, (batch, height, width, channels), as Keras does.

        What the operation is not made for, Keras itself computes: half precision,
        other ranks, a mask.
        """
        if inputs.dtype != "float32" or len(inputs.shape) != 4 or mask is not None:
            return super().call(inputs, training=training, mask=mask)
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
    """A copy of a network with such layers in place of Keras's."""
    return _copy(network, FusedBatchNormalization)


def plain(network: keras.Model) -> keras.Model:
    """A copy of what `fused` made, with Keras's own layers again."""
    return _copy(network, keras.layers.BatchNormalization)


def _copy(
    network: keras.Model, kind: type[keras.layers.BatchNormalization]
) -> keras.Model:
    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        replaced = isinstance(layer, keras.layers.BatchNormalization)
        return (kind if replaced else type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=copied)
    copy.set_weights(network.get_weights())
    for layer in copy.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return copy
