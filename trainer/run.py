"""A training run: what was asked for, and the divided images that it works on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.manifest import MAX_REDUCTION, Preparation
from trainer import blessing, recipes
from trainer import card as cards
from trainer.architectures import Weights
from trainer.blessing import Terms
from trainer.card import Card
from trainer.data import dataset, pixels, split
from trainer.data.dataset import Examples, Strings
from trainer.data.split import Division
from trainer.recipes import Recipe
from trainer.serving import Shape


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Which images a model is chosen and judged on, and where it goes.

    Attributes:
        data: where labelled images are; see `dataset.find`.
        naming: how patients and classes are found in file names.
        division: how patients are divided.
        output: the model directory to make.
        card: see `card`.
        seed: of everything random.
        cache: folder of decoded images; None for one beside the model.
        terms: on which the model is blessed.
        tuned_on: predictions of folds to choose thresholds on; none for the validation
            patients; see `out_of_fold`.
    """

    data: Path
    naming: dataset.Naming
    division: Division
    output: Path
    card: Card
    seed: int
    cache: Path | None = None
    terms: Terms = field(default_factory=Terms)
    tuned_on: tuple[Path, ...] = ()

    @property
    def logs(self) -> Path:
        """Beside the model: the recipe, the epochs, checkpoints, the predictions."""
        return self.output.with_name(self.output.name + ".training")

    @property
    def preparation(self) -> Preparation:
        """How images become the model's input."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Run(Setting):
    """What to train, on what, and where to leave it.

    Attributes:
        recipe: see `recipes`.
        weights: see `architectures.build`.
        teacher: a model, or predictions of one, whose answers go into the labels.
        also_keras: whether the Keras model is kept beside the SavedModel.
    """

    recipe: Recipe
    weights: Weights
    teacher: Path | None = None
    also_keras: bool = False

    @property
    def preparation(self) -> Preparation:
        """What the recipe says of it."""
        size = self.recipe.image_size
        return Preparation(
            height=size,
            width=size,
            resize=self.recipe.resize,
            max_reduction=MAX_REDUCTION,
        )


@dataclass(frozen=True)
class Data:
    """Examples with their pixels, their part, and which classes are findings."""

    examples: Examples
    parts: Strings
    pixels: pixels.Images
    findings: tuple[str, ...]

    def rows(self, part: str) -> NDArray[np.int64]:
        """The positions of the images of one part."""
        return np.flatnonzero(self.parts == part)

    @property
    def shape(self) -> Shape:
        """What a model of these images takes and gives."""
        classes = self.examples.classes
        return Shape(
            size=self.pixels.shape[1:3],
            classes=len(classes),
            findings=tuple(classes.index(finding) for finding in self.findings),
            task=self.examples.task,
        )


def read(setting: Setting) -> Data:
    """The images of a run, divided, with everything refused that must be.

    Raises:
        DatasetError: what cannot be trained on.
        FileExistsError: there is a model already where this one should go.
    """
    if setting.output.exists():
        raise FileExistsError(f"{setting.output} exists; choose another --output")
    return prepared(setting, dataset.find(setting.data, setting.naming))


def prepared(setting: Setting, examples: Examples) -> Data:
    """These examples, divided and as model inputs.

    Raises:
        DatasetError: what cannot be trained on.
        ValueError: a model to be replaced that answers another question.
    """
    findings = cards.findings(setting.card, examples.classes, examples.task)
    blessing.require(setting.terms, examples, findings, setting.preparation)
    parts = split.split(examples, setting.division)
    split.require_kinds(examples, parts, findings, setting.division.learned_from)
    least = setting.division.least_validation
    split.require_validation(examples, parts, findings, least)
    cache = setting.cache or setting.logs / "cache"
    images = pixels.read(examples, setting.preparation, cache)
    split.require_no_leak(examples, parts, images)
    return Data(examples, parts, images, findings)


def claim(run: Run, data: Data) -> None:
    """Note what is trained here.

    Raises:
        FileExistsError: something else was; or a Keras model is in the way.
    """
    about = {
        "recipe": recipes.plain(run.recipe),
        "seed": run.seed,
        "weights": run.weights and str(run.weights),
        "teacher": run.teacher and str(run.teacher),
        "classes": list(data.examples.classes),
        "images": len(data.examples),
        "labels": data.examples.labels_digest(),
        "split": split.digest(data.examples, data.parts),
    }
    path = run.logs / "run.json"
    # What was refused before its first epoch is in nobody's way.
    is_trained = any(run.logs.glob("member-*/checkpoint.npz"))
    if is_trained and path.exists() and json.loads(path.read_text("utf-8")) != about:
        raise FileExistsError(
            f"{run.logs} holds a run with another recipe, seed, split or data; remove "
            "it, or choose another --output"
        )
    keras_file = run.output.with_name(run.output.name + ".keras")
    if run.also_keras and keras_file.exists() and not path.exists():
        raise FileExistsError(f"{keras_file} exists; choose another --output")
    run.logs.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: half of it would keep the run from going on.
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    partial.rename(path)
