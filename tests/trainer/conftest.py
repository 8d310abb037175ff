"""Fixtures.

tiny            a recipe whose backbone trains in a second, and its row in BACKBONES
tiny_weights    a weights file of that backbone
chest_xray      120 films in class folders
few_resamples   intervals that take a moment, and are rough
trained         one training run on them with the tiny recipe, by the command line
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.trainer import films
from trainer import __main__, architectures, recipes
from trainer.architectures import Backbone
from trainer.evaluation import evaluate, predictions
from trainer.evaluation.predictions import Predictions
from trainer.recipes import Recipe, Stage

ONE = ((1 / 127.5,) * 3, (-1.0,) * 3)


@pytest.fixture(scope="session")
def tiny() -> Iterator[Recipe]:
    recipe = Recipe(
        backbone="tiny",
        image_size=films.SIZE,
        batch_size=16,
        stages=(
            Stage(unfrozen=0, epochs=1, learning_rate=0.01),
            Stage(unfrozen=1, epochs=4, learning_rate=0.01),
        ),
    )
    backbone = Backbone(films.tiny_backbone, *ONE, middle="norm1", smallest=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.BACKBONES, "tiny", backbone)
        patch.setitem(recipes.RECIPES, "tiny", recipe)
        yield recipe


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As if learned: the statistics are those of films."""
    keras.utils.set_random_seed(7)
    backbone = films.tiny_backbone(
        include_top=False, weights=None, input_shape=(films.SIZE, films.SIZE, 3)
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    pixels, _ = films.films(seed=5, count=32)
    backbone(np.repeat(pixels, 3, axis=3) / np.float32(127.5) - 1, training=True)
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    backbone.save_weights(path)
    return path


@pytest.fixture(scope="session")
def chest_xray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films.write_class_folders(tmp_path_factory.mktemp("data") / "chest_xray")


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_RESAMPLES", 100)


@dataclass(frozen=True)
class Trained:
    """A finished run: its command line without --output, its model, its scores."""

    command: list[str]
    data: Path
    model_dir: Path

    @property
    def logs(self) -> Path:
        return self.model_dir.with_name(self.model_dir.name + ".training")

    @property
    def predictions(self) -> Predictions:
        return predictions.load(self.logs / predictions.FILE)


@pytest.fixture(scope="session")
def trained(
    tiny: Recipe,
    tiny_weights: Path,
    chest_xray: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    card = folder / "card.toml"
    card.write_text(
        'version = "7"\nsource = "made in code"\nlimits = "everything"\n', "utf-8"
    )
    command = [
        "train",
        *("--recipe", "tiny"),
        *("--weights", str(tiny_weights)),
        *("--data", str(chest_xray)),
        *("--card", str(card)),
        *("--seed", "3"),
        *("--split_seed", "5"),
        *("--min_validation", "5"),
    ]
    output = folder / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "_RESAMPLES", 100)
        assert __main__.main([*command, "--output", str(output)]) == 0
    return Trained(command, chest_xray, output)
