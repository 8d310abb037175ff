"""The network scales as its backbone expects and keeps what the backbone learned."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from tests.trainer import films
from trainer import architectures
from trainer.recipes import Recipe

RECIPE = Recipe(backbone="mobilenet", width=0.25, image_size=32)


def mobilenet():
    return keras.applications.MobileNet(
        include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.25
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """MobileNet's weights, as if learned: its statistics are those of films."""
    keras.utils.set_random_seed(5)
    backbone = mobilenet()
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    pixels, _ = films.films(seed=5, count=32)
    backbone(np.repeat(pixels, 3, axis=3) / np.float32(127.5) - 1, training=True)
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    backbone.save_weights(path)
    return path


@pytest.fixture
def pixels():
    return films.films(seed=6, count=8)[0].astype(np.float32)


def statistics(network):
    """The moving statistics of every BatchNormalization, one array."""
    moving = architectures.backbone_of(network).non_trainable_variables
    assert moving
    return np.concatenate([variable.numpy().ravel() for variable in moving])


def test_logits_and_embedding_have_the_sizes_of_the_recipe(pixels):
    logits, embedding, _ = architectures.build(RECIPE, 3, None)(pixels)
    assert tuple(logits.shape) == (8, 3)
    # MobileNet ends in 1024 features, times its width.
    assert tuple(embedding.shape) == (8, 256)


@pytest.mark.parametrize(
    ("image_size", "places"), [(224, 7), (160, 10), (32, 2), (448, 7)]
)
def test_a_layout_keeps_where_in_the_image_a_feature_lies(image_size, places):
    recipe = dataclasses.replace(RECIPE, image_size=image_size)
    layout = architectures.build(recipe, 2, None).outputs[2]
    assert layout.shape == (None, places, places, 128)


def test_a_layout_is_the_pooled_output_of_the_middle(weights, pixels):
    network = architectures.build(RECIPE, 2, weights)
    backbone = mobilenet()
    backbone.load_weights(weights)
    middle = keras.Model(backbone.input, backbone.get_layer("conv_pw_11_relu").output)
    expected = middle(np.repeat(pixels, 3, axis=3) / np.float32(127.5) - 1)
    np.testing.assert_allclose(network(pixels)[2], expected, atol=1e-4)


@pytest.fixture
def bare(monkeypatch):
    """What a backbone would see, by its name: mean value of each channel."""

    def build(name):
        row = dataclasses.replace(
            architectures.BACKBONES[name],
            build=lambda *, input_shape, **_: keras.Sequential(
                [keras.Input(input_shape), keras.layers.Identity(name="middle")]
            ),
            middle="middle",
        )
        monkeypatch.setitem(architectures.BACKBONES, name, row)
        recipe = dataclasses.replace(RECIPE, backbone=name)
        network = architectures.build(recipe, 2, None)
        return lambda value: np.asarray(network(np.full((1, 32, 32, 1), value))[1])[0]

    return build


@pytest.mark.parametrize(("value", "expected"), [(0.0, -1), (127.5, 0), (255.0, 1)])
def test_mobilenet_sees_three_equal_channels_from_minus_1_to_1(bare, value, expected):
    assert bare("mobilenet")(value).tolist() == pytest.approx([expected] * 3)


def test_mobilenet_is_scaled_as_keras_scales_for_it(bare):
    expected = keras.applications.mobilenet.preprocess_input(np.full((1, 3), 77.0))
    assert bare("mobilenet")(77.0) == pytest.approx(expected[0], abs=1e-5)


def test_the_backbone_starts_from_the_weights_of_the_file(weights):
    backbone = architectures.backbone_of(architectures.build(RECIPE, 2, weights))
    expected = mobilenet()
    expected.load_weights(weights)
    pairs = zip(backbone.get_weights(), expected.get_weights(), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_without_a_file_every_seed_starts_elsewhere(pixels):
    kernels = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        network = architectures.build(RECIPE, 2, None)
        kernels.append(architectures.backbone_of(network).get_weights()[0])
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_a_training_step_leaves_the_statistics_as_they_were_learned(weights, pixels):
    network = architectures.build(RECIPE, 2, weights)
    before = statistics(network)
    network(pixels, training=True)
    np.testing.assert_array_equal(statistics(network), before)


def test_a_training_step_sees_the_features_that_serving_sees(weights, pixels):
    network = architectures.build(RECIPE, 2, weights)
    _, serving, _ = network(pixels, training=False)
    _, training, _ = network(pixels, training=True)
    np.testing.assert_allclose(training, serving, atol=1e-5)
    assert np.ptp(serving, axis=0).max() > 0.1


def test_a_backbone_that_starts_at_random_learns_its_statistics(pixels):
    # With those of an untrained BatchNormalization its features are all but 0.
    network = architectures.build(RECIPE, 2, None)
    before = statistics(network)
    network(pixels, training=True)
    assert np.abs(statistics(network) - before).max() > 1e-3


def test_the_recipe_drops_features_while_training_alone(weights, pixels):
    recipe = dataclasses.replace(RECIPE, dropout=0.5)
    network = architectures.build(recipe, 2, weights)
    serving = [np.asarray(network(pixels, training=False)[0]) for _ in range(2)]
    training = [np.asarray(network(pixels, training=True)[0]) for _ in range(2)]
    np.testing.assert_array_equal(*serving)
    assert np.abs(training[0] - training[1]).max() > 1e-3


def test_the_backbone_of_a_network_is_what_its_row_builds(weights):
    backbone = architectures.backbone_of(architectures.build(RECIPE, 2, weights))
    assert backbone.count_params() == mobilenet().count_params()
