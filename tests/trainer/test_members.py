"""What `--also_keras` writes is Keras's alone, and answers as the exported model."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from beam_pipeline import saved_model
from tests.trainer import films
from tests.trainer.small_model import RECIPE, small
from trainer import architectures, members
from trainer.serving import Network, Shape

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 1), np.uint8)


def test_the_keras_file_answers_as_the_exported_model() -> None:
    found = keras.models.load_model(small().keras_file).predict(
        IMAGES.astype(np.float32), verbose=0
    )
    expected = saved_model.load(small().model_dir).infer(IMAGES).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-5)


def backbone_weights(path: Path) -> Path:
    backbone = architectures.BACKBONES["custom_cnn"].build
    size = (RECIPE.image_size, RECIPE.image_size, 3)
    network = backbone(include_top=False, weights=None, input_shape=size)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta, mean + 0.3, variance * 2])
    network.save_weights(path)
    return path


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_members_are_saved_without_layers_of_ours(tmp_path: Path, task: str) -> None:
    weights = backbone_weights(tmp_path / "backbone.weights.h5")
    network = architectures.build(RECIPE, 2, weights)
    shape = Shape(size=(64, 64), classes=2, findings=(1,), task=task)
    both = [Network(network, shape, temperature=2.0)] * 2
    members.save_keras(both, 5.0, tmp_path / "model")
    file = tmp_path / "model.member-2.keras"
    config = zipfile.ZipFile(file).read("config.json").decode()
    assert "trainer" not in config
    assert "_InferenceMode" not in config
    loaded = keras.models.load_model(file)
    logits = network(IMAGES.astype(np.float32), training=False)[0]
    expected = shape.probabilities(logits / 2.0)
    given = tf.constant(IMAGES, tf.float32)
    np.testing.assert_allclose(loaded(given), expected, atol=1e-5)
    # Another batch must not move what a large data set made.
    np.testing.assert_allclose(loaded(given, training=True), expected, atol=0.5)
    statistics = [
        layer for layer in loaded.get_layer("backbone").layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]  # fmt: skip
    assert statistics
    assert not any(layer.trainable for layer in statistics)


def test_the_first_member_has_the_name_of_the_model(tmp_path: Path) -> None:
    network = architectures.build(replace(RECIPE, image_size=films.SIZE), 2, None)
    shape = Shape(size=(32, 32), classes=2, findings=(1,), task="binary")
    members.save_keras([Network(network, shape)], 1.0, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
