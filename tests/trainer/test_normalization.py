"""Fused layers learn, keep statistics and answer as Keras's own."""

from __future__ import annotations

import copy

import keras
import numpy as np
import pytest

from tests.trainer import films
from trainer import normalization

IMAGES = np.random.default_rng(5).normal(2, 3, (6, 9, 7, 4)).astype(np.float32)


def pair(**options: object) -> list[keras.Model]:
    """The same small network with Keras's layer and with the fused one."""
    image = keras.Input(IMAGES.shape[1:])
    norm = keras.layers.BatchNormalization(name="norm", momentum=0.7, **options)
    features = keras.layers.Conv2D(5, 3, name="conv")(norm(image))
    theirs = keras.Model(image, features)
    norm.set_weights(
        [
            np.linspace(0.5, 2, 4).astype(np.float32) + i
            for i in range(len(norm.weights))
        ]
    )
    return [theirs, normalization.fused(theirs)]


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
@pytest.mark.parametrize("trainable", [True, False])
def test_a_fused_layer_learns_as_keras_does(options: dict, trainable: bool) -> None:
    networks = pair(**options)
    targets = np.random.default_rng(6).normal(size=(6, 7, 5, 5)).astype(np.float32)
    for network in networks:
        network.get_layer("norm").trainable = trainable
        network.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
        network.fit(IMAGES, targets, epochs=3, verbose=0, shuffle=False, batch_size=3)
    theirs, ours = networks
    assert isinstance(ours.get_layer("norm"), normalization.FusedBatchNormalization)
    for name in ("norm", "conv"):
        for found, expected in zip(
            ours.get_layer(name).get_weights(),
            theirs.get_layer(name).get_weights(),
            strict=True,
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours(IMAGES), theirs(IMAGES), atol=1e-3)


def test_the_weights_change_in_training_at_all() -> None:
    _, ours = pair()
    before = copy.deepcopy(ours.get_layer("norm").get_weights())
    ours(IMAGES, training=True)
    for index, (now, then) in enumerate(
        zip(ours.get_layer("norm").get_weights(), before, strict=True)
    ):
        assert np.allclose(now, then) == (index < 2)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((3,), {}),
        ((4, 5, 3), {"axis": 1}),
        ((4, 5, 3), {"renorm": True}),
        ((4, 5, 3), {"synchronized": True}),
        ((4, 5, 3), {"dtype": "mixed_float16"}),
    ],
    ids=["rank 2", "axis", "renorm", "synchronized", "half precision"],
)
def test_what_the_operation_is_not_made_for_stays_keras(shape: tuple, options: dict):
    image = keras.Input(shape)
    norm = keras.layers.BatchNormalization(name="norm", **options)
    network = normalization.fused(keras.Model(image, norm(image)))
    assert type(network.get_layer("norm")) is keras.layers.BatchNormalization


def test_a_network_becomes_keras_own_again(tiny_weights: object) -> None:
    network = films.tiny_backbone(
        include_top=False, weights=tiny_weights, input_shape=(32, 32, 3)
    )
    fused = normalization.fused(network)
    again = normalization.plain(fused)
    kinds = {type(layer) for layer in again.layers}
    assert normalization.FusedBatchNormalization not in kinds
    images = np.random.default_rng(8).normal(size=(2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(fused(images), network(images), atol=1e-5)
    np.testing.assert_array_equal(again(images), network(images))
