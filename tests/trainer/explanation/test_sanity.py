"""Heatmaps that survive random weights are found out."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer import films
from trainer import architectures
from trainer.explanation import sanity
from trainer.recipes import Recipe
from trainer.serving import Network, Shape

PIXELS, LABELS = films.films(seed=1, count=64)


@pytest.fixture(scope="module")
def learned(tiny: Recipe) -> Network:
    """A tiny network that tells the patch from its absence."""
    keras.utils.set_random_seed(5)
    built = architectures.build(tiny, 2, None)
    classifier = keras.Model(built.input, built.outputs[0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.Adam(0.01), loss)
    classifier.fit(PIXELS.astype(np.float32), LABELS, epochs=12, verbose=0)
    shape = Shape(size=(32, 32), classes=2, findings=(1,), task="binary")
    return Network(built, shape)


def maps(network: Network) -> np.ndarray:
    findings = PIXELS[LABELS == 1]
    index = tf.ones(len(findings), tf.int32)
    return network.heatmap(tf.constant(findings), index).numpy()


def variables(network: Network) -> list[keras.Variable]:
    body, head = (network.network.get_layer(name) for name in ("body", "head"))
    return [v for v in body.weights + head.weights if "seed" not in v.path]


def test_maps_of_a_random_network_are_unlike_those_of_the_trained_one(
    learned: Network,
) -> None:
    before = maps(learned)
    checked = sanity.check(lambda: maps(learned), variables(learned), seed=1)
    assert checked.passed
    assert checked.steps[0].correlation == 1
    assert checked.steps[-1].correlation <= sanity.HIGHEST
    assert checked.steps[1].layer.endswith("logits")
    assert checked.steps[-1].share == 1
    np.testing.assert_array_equal(maps(learned), before)


def test_edges_are_found_out(learned: Network) -> None:
    pictures = PIXELS[LABELS == 1][..., 0].astype(np.float32)
    edges = np.abs(np.diff(pictures, axis=1))
    assert not sanity.check(lambda: edges, variables(learned), seed=1).passed


def test_flat_maps_cannot_be_checked(learned: Network) -> None:
    flat = np.zeros((3, 4, 4), np.float32)
    with pytest.raises(ValueError, match="flat"):
        sanity.check(lambda: flat, variables(learned), seed=1)
    with pytest.raises(ValueError, match="no variables"):
        sanity.check(lambda: np.eye(4, dtype=np.float32)[np.newaxis], [], seed=1)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([[1, 2], [3, 40]], 1.0),
        ([[4, 3], [2, 1]], -1.0),
        ([[5, 5], [5, 5]], 0.0),
    ],
)
def test_correlation_is_of_ranks(other: list[list[float]], expected: float) -> None:
    one = np.array([[1, 2], [3, 4]], np.float32)
    assert sanity.correlation(one, np.array(other)) == pytest.approx(expected)
