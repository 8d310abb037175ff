"""What `--also_keras` writes is Keras's alone, and answers as the exported model."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.trainer import films
from trainer import architectures, members
from trainer.recipes import Recipe
from trainer.serving import Network, Shape

IMAGES = films.films(seed=4, count=6)[0]


def network(tiny: Recipe, weights: Path, task: str) -> Network:
    """With a backbone that runs in inference mode, and statistics of its own."""
    built = architectures.build(tiny, 2, weights)
    for layer in architectures.backbone_of(built).layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta, mean + 0.3, variance * 2])
    shape = Shape(size=(32, 32), classes=2, findings=(1,), task=task)
    return Network(built, shape, temperature=2.0)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_members_are_saved_without_layers_of_ours(
    tmp_path: Path, tiny: Recipe, tiny_weights: Path, task: str
) -> None:
    member = network(tiny, tiny_weights, task)
    members.save_keras([member, member], 5.0, tmp_path / "model")
    assert files(tmp_path) == ["model.keras", "model.member-2.keras"]
    file = tmp_path / "model.member-2.keras"
    assert "trainer" not in zipfile.ZipFile(file).read("config.json").decode()
    loaded = keras.models.load_model(file)
    # Its logits are divided by its own temperature already.
    expected = member.shape.probabilities(member(IMAGES)["logits"])
    found = loaded.predict(IMAGES.astype(np.float32), verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_further_training_leaves_the_statistics_alone(
    tmp_path: Path, tiny: Recipe, tiny_weights: Path
) -> None:
    member = network(tiny, tiny_weights, "binary")
    members.save_keras([member], 1.0, tmp_path / "model")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    statistics = [
        layer
        for layer in loaded.get_layer("backbone").layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert statistics
    before = [layer.get_weights() for layer in statistics]
    loaded.compile("sgd", "categorical_crossentropy")
    loaded.fit(IMAGES.astype(np.float32), np.eye(2)[[0, 1, 0, 1, 0, 1]], verbose=0)
    for layer, weights in zip(statistics, before, strict=True):
        for now, then in zip(layer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(now, then)


def test_the_only_member_is_calibrated_as_the_exported_model(
    tmp_path: Path, tiny: Recipe, tiny_weights: Path
) -> None:
    member = network(tiny, tiny_weights, "binary")
    member.temperature = 1.0
    members.save_keras([member], 4.0, tmp_path / "model")
    assert files(tmp_path) == ["model.keras"]
    found = keras.models.load_model(tmp_path / "model.keras").predict(
        IMAGES.astype(np.float32), verbose=0
    )
    expected = member.shape.probabilities(member(IMAGES)["logits"] / 4.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
