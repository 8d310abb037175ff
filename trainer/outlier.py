"""How unlike the training images an image is: a Gaussian around their middle features.

The distance of Mahalanobis from the features of the training images tells other inputs
apart, and does so better in the middle of a network than at its end (Lee, Lee, Lee,
Shin: A Simple Unified Framework for Detecting Out-of-Distribution Samples and
Adversarial Attacks, NeurIPS 2018). The covariance is that of probabilistic PCA: `RANK`
directions with a variance each, and one for all that is left (Tipping, Bishop:
Probabilistic Principal Component Analysis, J. R. Stat. Soc. B 61, 1999).

The features keep where in the image they lie, reduced to a few channels. Averages over
the whole image answer to its texture first: they took the same radiographs for
outliers once another program had resized them. `docs/outliers.md` has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from beam_pipeline.manifest import Outlier

CHANNELS = 16
RANK = 64
QUANTILES = ("0.5", "0.9", "0.95", "0.99", "0.995", "0.999")
FLAG_ABOVE = "0.999"
# Channels hardly depend on how many images they were found from.
_BATCHES_FOR_CHANNELS = 16
# Features that never vary must not make every other image infinitely far.
_LEAST_VARIANCE = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OutlierScore:
    """The score, as numbers: for a layout, how far from the training images it is.

    It is the root of the squared distance of Mahalanobis over the number of features:
    about 1 for a training image, whatever the number of features.

    Attributes:
        channel_mean: (channels of the layout,).
        channels: (channels of the layout, channels kept), orthonormal columns.
        mean: (features,), where a feature is a kept channel at a place.
        components: (features, rank), orthonormal columns.
        variances: (rank,), along the components.
        noise: the variance along every other direction.
    """

    channel_mean: Floats
    channels: Floats
    mean: Floats
    components: Floats
    variances: Floats
    noise: float

    def __call__(self, layout: NDArray[np.float32]) -> Floats:
        """The score, (images,), of layouts (images, height, width, channels)."""
        centred = reduce(layout, self.channel_mean, self.channels) - self.mean
        within = centred @ self.components
        beyond = centred - within @ self.components.T
        distance = (np.square(within) / self.variances).sum(axis=1)
        distance += np.square(beyond).sum(axis=1) / self.noise
        root: Floats = np.sqrt(distance / len(self.mean))
        return root

    def in_graph(self, layout: tf.Tensor) -> tf.Tensor:
        """The same as TensorFlow's operations, in float32."""
        constants = (self.channel_mean, self.channels, self.mean, self.components)
        shift, turn, mean, components = (tf.constant(c, tf.float32) for c in constants)
        reduced = tf.tensordot(layout - shift, turn, 1)
        centred = tf.reshape(reduced, (-1, len(self.mean))) - mean
        within = centred @ components
        # Not as a difference of two sums of squares: in float32 little is left of it.
        beyond = centred - tf.matmul(within, components, transpose_b=True)
        distance = tf.reduce_sum(within**2 / self.variances.astype(np.float32), axis=1)
        distance += tf.reduce_sum(beyond**2, axis=1) / self.noise
        return tf.sqrt(distance / len(self.mean))


def reduce(
    layout: NDArray[np.float32], channel_mean: Floats, channels: Floats
) -> Floats:
    """Layouts with few channels, as rows of features, (images, features)."""
    reduced = (layout - channel_mean) @ channels
    return reduced.reshape(len(layout), -1)


def fit(
    network: keras.Model, plain: tf.data.Dataset, varied: tf.data.Dataset
) -> OutlierScore:
    """The score that a trained network's layouts of the training images give.

    Args:
        network: gives logits, embedding, layout.
        plain: (image, label) batches of the training images, in random order.
        varied: the same, augmented. They widen the Gaussian where training asked the
            network to overlook a difference: contrast, small turns and shifts.
    """
    see = _layout_of(network)
    sample = np.concatenate(list(layouts(see, plain.take(_BATCHES_FOR_CHANNELS))))
    places = sample.reshape(-1, sample.shape[-1]).astype(np.float64)
    shape = PCA(min(CHANNELS, places.shape[1]), svd_solver="covariance_eigh")
    shape.fit(places)
    features = np.concatenate(
        [
            reduce(layout, shape.mean_, shape.components_.T)
            for images in (plain, varied)
            for layout in layouts(see, images)
        ]
    )
    rank = min(RANK, min(features.shape) // 2)
    gaussian = PCA(rank, svd_solver="covariance_eigh").fit(features)
    return OutlierScore(
        channel_mean=shape.mean_,
        channels=shape.components_.T,
        mean=gaussian.mean_,
        components=gaussian.components_.T,
        variances=np.maximum(gaussian.explained_variance_, _LEAST_VARIANCE),
        noise=max(float(gaussian.noise_variance_), _LEAST_VARIANCE),
    )


def layouts(
    see: Callable[[tf.Tensor], tf.Tensor], images: tf.data.Dataset
) -> Iterator[NDArray[np.float32]]:
    """The layouts that `see` gives, batch by batch, of (image, label) batches."""
    for image, _ in images:
        yield see(tf.cast(image, tf.float32)).numpy()


def _layout_of(network: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """What the middle of a network sees, as one graph for all batches."""
    layout = keras.Model(network.input, network.outputs[2])
    given = tf.TensorSpec((None, *network.input.shape[1:]), tf.float32)
    see: Callable[[tf.Tensor], tf.Tensor] = tf.function(
        partial(layout, training=False), input_signature=[given]
    )
    return see


def describe(scores: Floats, features: str) -> Outlier:
    """The manifest's part, with the quantiles of the validation images' `scores`."""
    return Outlier(
        method=(
            "Mahalanobis distance under probabilistic PCA, as root mean square over "
            "the features"
        ),
        features=features,
        quantiles={
            share: float(np.quantile(scores, float(share))) for share in QUANTILES
        },
        flag_above=FLAG_ABOVE,
        chosen_on="validation",
    )
