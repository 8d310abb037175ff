"""The network scales as its backbone expects and keeps what the backbone learned."""

from __future__ import annotations

import dataclasses
from urllib.error import URLError

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.utils import file_utils

from tests.trainer import films
from trainer import architectures, normalization
from trainer.recipes import Head, Recipe, Stage

STAGES = (Stage(unfrozen=1, epochs=1, learning_rate=1e-3),)
RECIPE = Recipe(backbone="mobilenet", width=0.25, image_size=32, stages=STAGES)


def plain(weights):
    """The tiny backbone as `keras.applications` would give it."""
    return films.tiny_backbone(
        include_top=False, weights=weights, input_shape=(32, 32, 3)
    )


@pytest.fixture
def pixels():
    return films.films(seed=6, count=8)[0].astype(np.float32)


def statistics(network):
    """The moving statistics of every BatchNormalization, one array."""
    moving = architectures.backbone_of(network).non_trainable_variables
    assert moving
    return np.concatenate([variable.numpy().ravel() for variable in moving])


def test_logits_and_embedding_have_the_sizes_of_the_recipe(tiny, pixels):
    logits, embedding, _ = architectures.build(tiny, 3, None)(pixels)
    assert tuple(logits.shape) == (8, 3)
    assert tuple(embedding.shape) == (8, 8)


@pytest.mark.parametrize(
    ("image_size", "places"), [(224, 7), (64, 7), (40, 9), (32, 7), (16, 3)]
)
def test_a_layout_keeps_where_in_the_image_a_feature_lies(tiny, image_size, places):
    recipe = dataclasses.replace(tiny, image_size=image_size)
    layout = architectures.build(recipe, 2, None).outputs[2]
    assert layout.shape == (None, places, places, 8)


@pytest.mark.parametrize("gpus", [[], ["a GPU"]], ids=["CPU", "GPU"])
def test_a_gpu_normalizes_as_keras_does(tiny, monkeypatch, gpus):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: gpus)
    network = architectures.build(tiny, 2, None)
    kinds = {type(layer) for layer in architectures.backbone_of(network).layers}
    assert (normalization.FusedBatchNormalization in kinds) == (not gpus)
    assert (keras.layers.BatchNormalization in kinds) == bool(gpus)


def test_batches_are_normalized_in_one_operation(tiny, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    network = architectures.build(tiny, 2, None)
    given = tf.TensorSpec((None, 32, 32, 1), tf.float32)
    graph = tf.function(network).get_concrete_function(given).graph
    assert "FusedBatchNormV3" in {
        operation.type for operation in graph.get_operations()
    }


def test_a_layout_is_the_pooled_output_of_the_middle(tiny, tiny_weights, pixels):
    network = architectures.build(tiny, 2, tiny_weights)
    backbone = plain(tiny_weights)
    middle = keras.Model(backbone.input, backbone.get_layer("norm1").output)
    expected = middle(np.repeat(pixels, 3, axis=3) / np.float32(127.5) - 1)
    np.testing.assert_allclose(network(pixels)[2], expected, atol=1e-4)


@pytest.fixture
def bare(monkeypatch):
    """What a backbone would see of pixels, (images, 32, 32, 3), by its name."""

    def build(name, pixels):
        row = dataclasses.replace(
            architectures.BACKBONES[name],
            build=lambda *, input_shape, **_: keras.Sequential(
                [keras.Input(input_shape), keras.layers.Identity(name="middle")]
            ),
            middle="middle",
            smallest=1,
        )
        monkeypatch.setitem(architectures.BACKBONES, name, row)
        recipe = dataclasses.replace(RECIPE, width=1.0, backbone=name)
        body = architectures.build(recipe, 2, None).get_layer("body")
        return np.asarray(body(pixels)[0])

    return build


FAMILIES = [
    ("mobilenet", keras.applications.mobilenet),
    ("vgg16", keras.applications.vgg16),
    ("resnet50", keras.applications.resnet50),
    ("inception_v3", keras.applications.inception_v3),
    ("efficientnet_b0", keras.applications.efficientnet),
    ("efficientnet_b1", keras.applications.efficientnet),
    ("efficientnet_b2", keras.applications.efficientnet),
    ("efficientnet_b3", keras.applications.efficientnet),
    ("densenet121", keras.applications.densenet),
]


@pytest.mark.parametrize(("name", "family"), FAMILIES)
def test_grey_images_are_scaled_as_keras_scales_for_the_weights(
    bare, pixels, name, family
):
    pixels[0], pixels[1] = 0, 255
    # It writes into what it is given.
    expected = family.preprocess_input(np.repeat(pixels, 3, axis=3).copy())
    np.testing.assert_allclose(bare(name, pixels), expected, rtol=1e-5, atol=1e-4)


def test_every_backbone_that_there_is_has_its_scaling_tested():
    tested = {name for name, _ in FAMILIES} | {"custom_cnn", "tiny"}
    assert set(architectures.BACKBONES) <= tested


@pytest.mark.parametrize("value", [0, 51, 255])
def test_the_custom_cnn_sees_0_to_1(bare, value):
    pixels = np.full((1, 32, 32, 1), value, np.float32)
    found = bare("custom_cnn", pixels)
    np.testing.assert_allclose(found, np.full((1, 32, 32, 3), value / 255), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("alexnet", 32, r"backbone is 'alexnet', expected one of mobilenet, "),
        ("inception_v3", 74, r"image_size is 74; inception_v3 takes 75 or more"),
        ("vgg16", 31, r"image_size is 31; vgg16 takes 32 or more"),
    ],
)
def test_a_backbone_that_cannot_be_built_is_refused(name, size, said):
    recipe = dataclasses.replace(RECIPE, width=1.0, backbone=name, image_size=size)
    with pytest.raises(ValueError, match=said):
        architectures.require(recipe)
    with pytest.raises(ValueError, match=said):
        architectures.build(recipe, 2, None)


def efficientnet(**options):
    return keras.applications.EfficientNetB0(
        include_top=False, input_shape=(32, 32, 3), **options
    )


def stem(network):
    """What follows the scaling. Random layers after it multiply rounding errors."""
    return keras.Model(network.input, network.get_layer("stem_conv").output)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A weights file of EfficientNetB0, with ImageNet's statistics of the input."""
    keras.utils.set_random_seed(2)
    network = efficientnet(weights=None)
    normalization = network.get_layer("normalization")
    deviations = np.array([0.229, 0.224, 0.225], np.float32)
    means = np.array([0.485, 0.456, 0.406], np.float32)
    _, _, *count = normalization.get_weights()
    normalization.set_weights([means, deviations**2, *count])
    normalization.finalize_state()
    images, _ = films.films(seed=5, count=16)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(np.repeat(images, 3, axis=3).astype(np.float32), training=True)
    path = tmp_path_factory.mktemp("imagenet") / "efficientnetb0_notop.weights.h5"
    network.save_weights(path)
    return path


def test_efficientnet_is_the_same_from_a_file_as_when_keras_fetches_it(
    imagenet, pixels, monkeypatch
):
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(imagenet))
    recipe = dataclasses.replace(RECIPE, width=1.0, backbone="efficientnet_b0")
    rgb = np.repeat(pixels, 3, axis=3)
    expected = np.asarray(stem(efficientnet(weights="imagenet"))(rgb))
    plain = efficientnet(weights=None)
    plain.load_weights(imagenet)
    assert np.abs(stem(plain)(rgb) - expected).max() > 0.01
    for weights in (imagenet, "imagenet"):
        network = architectures.build(recipe, 2, weights)
        found = stem(architectures.backbone_of(network))(rgb)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_weights_that_cannot_be_fetched_say_which_file_to_bring(monkeypatch, tmp_path):
    def unreachable(*_):
        raise URLError("Network is unreachable")

    monkeypatch.setattr(file_utils, "urlretrieve", unreachable)
    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path))
    recipe = dataclasses.replace(RECIPE, width=1.0, backbone="vgg16")
    with pytest.raises(FileNotFoundError, match=r"bring vgg16.*notop\.h5 .*--weights"):
        architectures.build(recipe, 2, "imagenet")


def test_weights_of_another_network_are_refused_by_name(tiny, tiny_weights):
    recipe = RECIPE
    with pytest.raises(ValueError, match=r"no weights of mobilenet .*width 0\.25"):
        architectures.build(recipe, 2, tiny_weights)
    recipe = dataclasses.replace(RECIPE, width=1.0, backbone="custom_cnn")
    with pytest.raises(ValueError, match="holds no weights of custom_cnn"):
        architectures.build(recipe, 2, tiny_weights)


def test_a_network_without_imagenet_weights_says_so():
    recipe = dataclasses.replace(RECIPE, width=1.0, backbone="custom_cnn")
    with pytest.raises(ValueError, match="custom_cnn has no ImageNet weights"):
        architectures.build(recipe, 2, "imagenet")


def test_the_backbone_starts_from_the_weights_of_the_file(tiny, tiny_weights):
    backbone = architectures.backbone_of(architectures.build(tiny, 2, tiny_weights))
    expected = plain(tiny_weights).get_weights()
    pairs = zip(backbone.get_weights(), expected, strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_without_a_file_every_seed_starts_elsewhere(tiny, pixels):
    kernels = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        network = architectures.build(tiny, 2, None)
        kernels.append(architectures.backbone_of(network).get_weights()[0])
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_a_training_step_leaves_the_statistics_as_they_were_learned(
    tiny, tiny_weights, pixels
):
    network = architectures.build(tiny, 2, tiny_weights)
    before = statistics(network)
    network(pixels, training=True)
    np.testing.assert_array_equal(statistics(network), before)


def test_a_training_step_sees_the_features_that_serving_sees(
    tiny, tiny_weights, pixels
):
    network = architectures.build(tiny, 2, tiny_weights)
    _, serving, _ = network(pixels, training=False)
    _, training, _ = network(pixels, training=True)
    np.testing.assert_allclose(training, serving, atol=1e-5)
    assert np.ptp(serving, axis=0).max() > 0.1


def test_a_backbone_that_starts_at_random_learns_its_statistics(tiny, pixels):
    # With those of an untrained BatchNormalization its features are all but 0.
    network = architectures.build(tiny, 2, None)
    before = statistics(network)
    network(pixels, training=True)
    assert np.abs(statistics(network) - before).max() > 1e-3


def test_the_recipe_drops_features_while_training_alone(tiny, tiny_weights, pixels):
    recipe = dataclasses.replace(tiny, head=Head(dropout=0.5))
    network = architectures.build(recipe, 2, tiny_weights)
    serving = [np.asarray(network(pixels, training=False)[0]) for _ in range(2)]
    training = [np.asarray(network(pixels, training=True)[0]) for _ in range(2)]
    np.testing.assert_array_equal(*serving)
    assert np.abs(training[0] - training[1]).max() > 1e-3


def test_the_backbone_of_a_network_is_what_its_row_builds(tiny, tiny_weights):
    backbone = architectures.backbone_of(architectures.build(tiny, 2, tiny_weights))
    assert backbone.count_params() == plain(None).count_params()


@pytest.mark.parametrize(("share", "learning"), [(0, 0), (0.25, 2), (0.5, 4), (1, 8)])
def test_a_share_of_the_layers_learns_from_the_end(tiny, share, learning):
    network = architectures.build(tiny, 2, None)
    architectures.unfreeze(network, 1)
    architectures.unfreeze(network, share)
    layers = architectures.backbone_of(network).layers
    # The input, and convolution, normalization and ReLU twice.
    assert len(layers) == 7
    trainable = [layer.trainable for layer in layers]
    assert trainable == sorted(trainable)
    assert sum(trainable) == pytest.approx(7 * share, abs=0.5)
    variables = network.get_layer("body").trainable_variables
    # A kernel, a bias, a scale and a shift each time.
    assert len(variables) == learning


@pytest.mark.parametrize("with_weights", [True, False], ids=["weights", "random"])
def test_a_share_learns_with_weights_as_without(tiny, tiny_weights, with_weights):
    network = architectures.build(tiny, 2, tiny_weights if with_weights else None)
    before = len(network.get_layer("head").trainable_variables)
    architectures.unfreeze(network, 0)
    assert len(network.trainable_variables) == before == 2
    architectures.unfreeze(network, 1)
    assert len(network.trainable_variables) == before + 8


def test_frozen_layers_that_start_at_random_keep_their_statistics(tiny, pixels):
    network = architectures.build(tiny, 2, None)
    architectures.unfreeze(network, 0)
    before = statistics(network)
    network(pixels, training=True)
    np.testing.assert_array_equal(statistics(network), before)


def test_a_head_has_the_layers_of_its_recipe(tiny, pixels):
    head = Head(pooling="flatten", dense=(12, 5), batch_normalization=True, dropout=0.3)
    network = architectures.build(dataclasses.replace(tiny, head=head), 3, None)
    layers = network.get_layer("head").layers
    kinds = [type(layer).__name__ for layer in layers[1:]]
    block = ["Dropout", "Dense", "BatchNormalization"]
    assert kinds == ["Flatten", *block, *block, "Dropout", "Dense"]
    assert [layer.units for layer in layers if hasattr(layer, "units")] == [12, 5, 3]
    assert [layer.rate for layer in layers if hasattr(layer, "rate")] == [0.3] * 3
    logits, embedding, _ = network(pixels)
    assert tuple(logits.shape) == (8, 3)
    # What the last layer sees.
    kernel, bias = network.get_layer("head").layers[-1].get_weights()
    np.testing.assert_allclose(np.asarray(embedding) @ kernel + bias, logits, atol=1e-4)


def test_average_pooling_is_the_mean_over_places(tiny, pixels):
    network = architectures.build(tiny, 2, None)
    features, _ = network.get_layer("body")(pixels, training=False)
    _, embedding, _ = network(pixels, training=False)
    expected = np.asarray(features).mean(axis=(1, 2))
    np.testing.assert_allclose(embedding, expected, atol=1e-5)
