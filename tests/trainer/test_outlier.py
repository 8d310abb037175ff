"""The score is the distance of probabilistic PCA, in NumPy and in the graph."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from tests.trainer import films
from trainer import architectures, outlier
from trainer.data import pixels as model_inputs
from trainer.outlier import OutlierScore

COUNT, PLACES, CHANNELS, KEPT = 400, 3, 5, 4


def layouts(seed, count=COUNT):
    """Layouts whose channels and places vary together, each with its own scale."""
    mixing = np.random.default_rng(0).normal(size=(PLACES**2 * CHANNELS,) * 2)
    drawn = np.random.default_rng(seed).normal(size=(count, len(mixing)))
    mixed = drawn * np.geomspace(3, 0.3, len(mixing)) @ mixing + 7
    return mixed.reshape(count, PLACES, PLACES, CHANNELS).astype(np.float32)


class Given(keras.layers.Layer):
    """A layout from its place in a row of images: pixel (0, 0) holds the index."""

    def __init__(self, values):
        super().__init__()
        self.values = tf.constant(values)

    def call(self, image):
        return tf.gather(self.values, tf.cast(image[:, 0, 0, 0], tf.int32))


def network_of(values):
    """A network whose layout of the image with number n is `values[n]`."""
    image = keras.Input((1, 1, 1))
    flat = keras.layers.Flatten()(image)
    return keras.Model(image, [flat, flat, Given(values)(image)])


def numbered(numbers):
    pixels = np.asarray(numbers, np.uint8).reshape(-1, 1, 1, 1)
    return batches(pixels, 32)


def batches(pixels, size):
    targets = np.zeros((len(pixels), 1), np.float32)
    return model_inputs.batches(pixels, targets, np.arange(len(pixels)), size)


@pytest.fixture(scope="module")
def values():
    return layouts(1, count=200)


@pytest.fixture
def score(values, monkeypatch):
    monkeypatch.setattr(outlier, "CHANNELS", KEPT)
    monkeypatch.setattr(outlier, "RANK", 6)
    monkeypatch.setattr(outlier, "_BATCHES_FOR_CHANNELS", 99)
    return outlier.fit(
        network_of(values), numbered(range(120)), numbered(range(120, 200))
    )


@pytest.fixture
def features(values):
    """The reduced features of all 200, by another way."""
    places = values[:120].reshape(-1, CHANNELS).astype(np.float64)
    _, _, axes = np.linalg.svd(places - places.mean(axis=0), full_matrices=False)

    def reduce(layout):
        turned = (layout.reshape(-1, CHANNELS) - places.mean(axis=0)) @ axes[:KEPT].T
        return turned.reshape(len(layout), -1)

    return reduce


def test_the_score_orders_images_as_the_likelihood_of_probabilistic_pca(
    score, features, values
):
    oracle = PCA(6, svd_solver="full").fit(features(values))
    strange = 3 * layouts(2, count=50)
    size = PLACES**2 * KEPT
    likelihood = oracle.score_samples(features(strange))
    constant = size * np.log(2 * np.pi) - np.linalg.slogdet(oracle.get_precision())[1]
    expected = np.sqrt((-2 * likelihood - constant) / size)
    np.testing.assert_allclose(score(strange), expected, rtol=1e-5)


def test_with_every_direction_it_is_the_distance_of_mahalanobis(values, features):
    size = PLACES**2 * KEPT
    gaussian = PCA(size - 1, svd_solver="full").fit(features(values))
    full = OutlierScore(
        channel_mean=np.zeros(size),
        channels=np.eye(size),
        mean=gaussian.mean_,
        components=gaussian.components_.T,
        variances=gaussian.explained_variance_,
        noise=float(gaussian.noise_variance_),
    )
    rows = features(layouts(2, count=20)).reshape(20, 1, 1, size)
    squared = EmpiricalCovariance().fit(features(values)).mahalanobis(rows[:, 0, 0])
    # scikit-learn divides by n there and by n - 1 in PCA.
    expected = np.sqrt(squared * (199 / 200) / size)
    np.testing.assert_allclose(full(rows), expected, rtol=1e-5)


def test_the_graph_gives_what_numpy_gives(score):
    strange = np.concatenate([layouts(3, 20), 50 * layouts(4, 20)])
    found = tf.function(score.in_graph)(tf.constant(strange))
    assert found.dtype == tf.float32
    assert found.shape == (40,)
    np.testing.assert_allclose(found, score(strange), rtol=1e-4)


def test_images_it_was_fitted_on_are_near_1_and_others_are_beyond(score, values):
    assert np.sqrt(np.square(score(values)).mean()) == pytest.approx(1, abs=0.02)
    mirrored = values[:, ::-1, ::-1]
    assert np.median(score(mirrored)) > np.quantile(score(values), 0.9)


def test_varied_images_widen_what_is_like_training(values, monkeypatch):
    monkeypatch.setattr(outlier, "RANK", 6)
    both = np.concatenate([values[:100], 1.5 * values[:100]])
    network = network_of(both)
    narrow = outlier.fit(network, numbered(range(100)), numbered(range(100)))
    wide = outlier.fit(network, numbered(range(100)), numbered(range(100, 200)))
    brighter = 1.5 * values[100:]
    assert np.median(wide(brighter)) < np.median(narrow(brighter))


def test_features_that_never_vary_give_a_score_all_the_same():
    values = layouts(1, count=64)
    values[..., 1:] = 5
    found = outlier.fit(network_of(values), numbered(range(64)), numbered(range(64)))
    assert np.isfinite(found(values)).all()
    assert np.isfinite(found(values + 1)).all()


def test_the_quantiles_are_those_of_the_given_scores():
    scores = np.random.default_rng(0).permutation(np.arange(1001) / 1000)
    found = outlier.describe(scores, "those in the middle")
    expected = {"0.5": 0.5, "0.9": 0.9, "0.95": 0.95, "0.99": 0.99}
    expected |= {"0.995": 0.995, "0.999": 0.999}
    assert found.quantiles == pytest.approx(expected)
    assert found.limit == found.quantiles[outlier.FLAG_ABOVE]
    assert found.chosen_on == "validation"
    assert found.features == "those in the middle"


def test_a_score_is_fitted_on_what_the_network_that_serves_sees(tiny, tiny_weights):
    network = architectures.build(tiny, 2, tiny_weights)
    pixels, _ = films.films(seed=1, count=40)
    found = outlier.fit(network, batches(pixels, 16), batches(pixels, 16))
    layout = network(pixels.astype(np.float32), training=False)[2].numpy()
    mean = layout.reshape(-1, layout.shape[-1]).mean(axis=0)
    np.testing.assert_allclose(found.channel_mean, mean, atol=1e-4)
    assert np.isfinite(found(layout)).all()


def test_a_trained_model_finds_noise_stranger_than_films(trained):
    model = saved_model.load(trained.model_dir)
    described = manifests.load(trained.model_dir).outlier
    pixels, _ = films.films(seed=5, count=60)
    assert described.quantiles["0.5"] < described.quantiles["0.99"]
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
    found = model.infer(noise).outlier_score
    assert (found > described.limit).all()
    like = model.infer(pixels).outlier_score
    assert np.median(like) < np.median(found)
