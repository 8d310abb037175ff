"""What several networks, or an image and its mirror image, answer together."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, softmax

from tests.trainer import films
from trainer import architectures, members
from trainer.serving import Network, Shape

TASKS = {
    "binary": Shape((films.SIZE, films.SIZE), 2, (1,), "binary"),
    "multiclass": Shape((films.SIZE, films.SIZE), 3, (0, 2), "multiclass"),
    "multilabel": Shape((films.SIZE, films.SIZE), 3, (0, 2), "multilabel"),
}


@pytest.fixture(scope="module")
def pixels():
    return films.films(seed=4, count=6)[0]


@pytest.fixture(scope="module")
def network(tiny, tiny_weights):
    """A network by its number of classes and seed; logits are far apart."""

    def build(classes, seed):
        keras.utils.set_random_seed(seed)
        built = architectures.build(tiny, classes, tiny_weights)
        head = built.get_layer("head").get_layer("logits")
        head.set_weights([5 * weights for weights in head.get_weights()])
        return built

    return build


def probabilities(shape, logits):
    return expit(logits) if shape.task == "multilabel" else softmax(logits, axis=1)


def scores(shape, chances):
    found = chances[:, list(shape.findings)]
    return found.max(axis=1) if shape.task == "multilabel" else found.sum(axis=1)


def logits_of(network, pixels):
    return np.asarray(network(pixels.astype(np.float32), training=False)[0])


@pytest.mark.parametrize("task", TASKS)
def test_an_ensemble_is_the_mean_of_probabilities_and_says_how_far_they_differ(
    network, pixels, task
):
    shape = TASKS[task]
    networks = [network(shape.classes, seed) for seed in (1, 2)]
    temperatures = (1.0, 2.0)
    scorers = [
        Network(each, shape, temperature=temperature)
        for each, temperature in zip(networks, temperatures, strict=True)
    ]
    found = members.combined(scorers, mirrored=False)(tf.constant(pixels))
    each = [
        probabilities(shape, logits_of(one, pixels) / temperature)
        for one, temperature in zip(networks, temperatures, strict=True)
    ]
    mean = np.mean(each, axis=0)
    answered = probabilities(shape, found["logits"].numpy().astype(np.float64))
    np.testing.assert_allclose(answered, mean, atol=1e-5)
    spread = np.std([scores(shape, chances) for chances in each], axis=0)
    np.testing.assert_allclose(found["spread"], spread, atol=1e-5)
    assert spread.max() > 0.01
    assert found["embedding"].shape == (6, 16)


@pytest.mark.parametrize("task", TASKS)
def test_with_its_mirror_image_an_image_has_the_answer_of_its_mirror_image(
    network, pixels, task
):
    shape = TASKS[task]
    one = Network(network(shape.classes, 1), shape)
    both = members.combined([one], mirrored=True)
    found, mirrored = both(tf.constant(pixels)), both(tf.constant(pixels[:, :, ::-1]))
    np.testing.assert_allclose(found["logits"], mirrored["logits"], atol=1e-5)
    np.testing.assert_allclose(found["spread"], mirrored["spread"], atol=1e-5)
    each = [
        probabilities(shape, logits_of(one.network, image))
        for image in (pixels, pixels[:, :, ::-1])
    ]
    answered = probabilities(shape, found["logits"].numpy().astype(np.float64))
    np.testing.assert_allclose(answered, np.mean(each, axis=0), atol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 1e-4
    index = tf.zeros(len(pixels), tf.int32)
    heatmaps = both.heatmap(tf.constant(pixels), index)
    turned = both.heatmap(tf.constant(pixels[:, :, ::-1]), index)
    np.testing.assert_allclose(heatmaps, turned.numpy()[:, :, ::-1], atol=1e-4)


def test_whether_an_image_is_strange_is_asked_of_the_image_alone(network, pixels):
    shape = TASKS["binary"]
    one = Network(network(2, 1), shape, lambda layout: layout[:, 0, 0, 0])
    both = members.combined([one], mirrored=True)(tf.constant(pixels))
    alone = one(tf.constant(pixels))
    np.testing.assert_array_equal(both["outlier_score"], alone["outlier_score"])
    turned = one(tf.constant(pixels[:, :, ::-1]))
    assert not np.array_equal(turned["outlier_score"], alone["outlier_score"])


def test_the_outlier_score_of_an_ensemble_is_the_mean(network, pixels):
    shape = TASKS["binary"]
    scorers = [
        Network(network(2, seed), shape, lambda layout: layout[:, 0, 0, 0])
        for seed in (1, 2)
    ]
    found = members.combined(scorers, mirrored=False)(tf.constant(pixels))
    each = [scorer(tf.constant(pixels))["outlier_score"] for scorer in scorers]
    np.testing.assert_allclose(found["outlier_score"], np.mean(each, axis=0), atol=1e-5)
    silent = [scorers[0], Network(network(2, 3), shape)]
    assert "outlier_score" not in members.combined(silent, mirrored=False)(
        tf.constant(pixels)
    )


def test_the_heatmap_of_an_ensemble_is_the_mean_as_a_share_of_its_largest(
    network, pixels
):
    shape = TASKS["multiclass"]
    scorers = [Network(network(3, seed), shape) for seed in (1, 2)]
    index = tf.constant([0, 1, 2, 0, 1, 2])
    found = members.combined(scorers, mirrored=False).heatmap(
        tf.constant(pixels), index
    )
    each = [scorer.heatmap(tf.constant(pixels), index) for scorer in scorers]
    mean = np.mean(each, axis=0)
    # Members that see a class in different places would else leave no place at 1.
    assert (mean.max(axis=(1, 2)) < 0.999).any()
    largest = np.maximum(mean.max(axis=(1, 2), keepdims=True), 1e-9)
    np.testing.assert_allclose(found, mean / largest, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_probabilities_come_back_through_logits(task):
    shape = TASKS[task]
    logits = np.random.default_rng(0).normal(0, 4, (9, shape.classes))
    chances = probabilities(shape, logits).astype(np.float32)
    back = probabilities(shape, shape.logits(chances).numpy().astype(np.float64))
    np.testing.assert_allclose(back, chances, atol=1e-5)
    sure = shape.logits(np.eye(shape.classes, dtype=np.float32))
    assert np.isfinite(sure).all()


def test_one_network_alone_is_not_wrapped(network):
    one = Network(network(2, 1), TASKS["binary"])
    assert members.combined([one], mirrored=False) is one
