"""A small network that has learned the patch of `films`, and the same one exported."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from tests.trainer import films
from trainer import recipes, train
from trainer.blessing import Terms
from trainer.card import Card
from trainer.data import dataset
from trainer.data.split import Division
from trainer.evaluation import evaluate, operating_points
from trainer.recipes import Augmentation, Head, Recipe, Stage
from trainer.run import Run

RECIPE: Recipe = replace(
    recipes.RECIPES["custom_cnn"],
    image_size=64,
    batch_size=4,
    head=Head(dense=(16,), dropout=0.0),
    stages=(Stage(unfrozen=1, epochs=3, learning_rate=0.001),),
    augmentation=Augmentation(
        rotation=0, shift=0, zoom=0, brightness=0, contrast=0, horizontal_flip=False
    ),
)


@dataclass(frozen=True)
class Small:
    """A data set of films and a model that was trained on it."""

    data: Path
    model_dir: Path

    @property
    def keras_file(self) -> Path:
        return self.model_dir.with_name(self.model_dir.name + ".keras")

    def film(self, label: str) -> Path:
        return sorted((self.data / label).iterdir())[0]


def run(data: Path, output: Path, recipe: Recipe = RECIPE) -> Run:
    return Run(
        data=data,
        naming=dataset.Naming(),
        division=Division(seed=1, least_validation=2),
        output=output,
        recipe=recipe,
        weights=None,
        card=Card(source="made in code", limits="everything"),
        seed=3,
        terms=Terms(),
        also_keras=True,
    )


@functools.cache
def small() -> Small:
    """Trained once, for all tests of this process."""
    folder = Path(tempfile.mkdtemp(prefix="small-model-"))
    data = _write_films(folder / "films")
    with few_resamples():
        train.train(run(data, folder / "model"))
    return Small(data, folder / "model")


def _write_films(folder: Path) -> Path:
    """As many as a split needs, large enough that the job would score them."""
    random = np.random.default_rng(0)
    for label in films.CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(24):
            film = films.film(random, label == "PNEUMONIA", rows=80, columns=72)
            Image.fromarray(film).save(folder / label / f"person{number}_{label}.png")
    return folder


@contextmanager
def few_resamples() -> Iterator[None]:
    """Intervals that take a moment, and are rough."""
    with (
        mock.patch.object(evaluate, "_RESAMPLES", 50),
        mock.patch.object(operating_points, "_RESAMPLES", 50),
    ):
        yield
