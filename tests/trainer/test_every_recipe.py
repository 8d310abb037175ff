"""Every named recipe trains, is exported, loaded again, and scores a PNG in the job.

Networks run here without being traced while they train, which is several times faster
for two steps; `test_fit.py` and `test_train.py` train traced ones.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from beam_pipeline import manifest as manifests
from beam_pipeline.__main__ import main as beam_pipeline
from tests.trainer import films
from trainer import __main__, architectures, members, recipes
from trainer.evaluation import evaluate, predictions
from trainer.recipes import RECIPES, Recipe

pytestmark = pytest.mark.filterwarnings("ignore:Even though:UserWarning:tensorflow")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(evaluate, "_RESAMPLES", 20)
    genuine = members.train

    def eagerly(*arguments):
        tf.config.run_functions_eagerly(True)
        try:
            return genuine(*arguments)
        finally:
            tf.config.run_functions_eagerly(False)

    monkeypatch.setattr(members, "train", eagerly)
    before = tf.config.optimizer.get_experimental_options()
    # Optimizing a graph takes longer than running it for a few images does.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": False, **before}
    )
    keras.backend.clear_session()


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """20 patients of each class: 30 images to train on, in two steps of 15."""
    folder = tmp_path_factory.mktemp("films") / "data"
    return films.write_class_folders(folder, patients=20, images=20)


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """An export with one PNG."""
    folder = tmp_path_factory.mktemp("night")
    picture = films.film(np.random.default_rng(9), True, 90, 80)
    Image.fromarray(picture).save(folder / "chest.png")
    return folder


def changes(recipe: Recipe) -> list[str]:
    """The recipe's last stage alone, two steps of it, on the smallest images."""
    backbone = architectures.BACKBONES[recipe.backbone]
    last = recipe.stages[-1]
    stage = (
        f"{{unfrozen = {last.unfrozen}, epochs = 1, "
        f"learning_rate = {last.learning_rate}}}"
    )
    return [
        f"image_size={max(64, backbone.smallest)}",
        "batch_size=15",
        f"stages=[{stage}]",
    ]


def train_and_score(recipe, data, night, folder, *more):
    """The manifest of the model, and the row of the PNG."""
    flags = [
        flag for change in changes(recipes.load(recipe)) for flag in ("--set", change)
    ]
    command = ["train", "--data", str(data), "--output", str(folder / "model")]
    command += ["--recipe", recipe, "--weights", "none", "--min_validation", "1"]
    # Two steps teach nothing; what is asked here is whether the model works.
    command += ["--require", "auc=0", *flags, *more]
    assert __main__.main(command) == 0
    score = ["score", f"--input={night}", f"--output={folder / 'results'}"]
    score += [f"--model={folder / 'model'}", "--read_workers=1"]
    assert beam_pipeline(score) == 0
    (row,) = pq.read_table(folder / "results" / "instances").to_pylist()
    return manifests.load(folder / "model"), row


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_becomes_a_model_that_scores(name, folders, night, tmp_path):
    manifest, row = train_and_score(name, folders, night, tmp_path)
    assert manifest.recipe["backbone"] == RECIPES[name].backbone
    assert manifest.recipe["head"] == recipes.plain(RECIPES[name])["head"]
    assert row["status"] == "SCORED"
    assert 0 <= row["score"] <= 1
    assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert row["outlier_score"] > 0
    assert (row["model_name"], row["label"] in manifest.classes) == ("model", True)


def test_a_model_of_three_classes_scores(folders, night, tmp_path, monkeypatch):
    data = tmp_path / "data"
    names = {"NORMAL": "IM-{:04d}-{}.png", "P": "person{}_{}_{}.png"}
    random = np.random.default_rng(3)
    for index in range(60):
        kind = ("NORMAL", "bacteria", "virus")[index % 3]
        folder = data / ("NORMAL" if kind == "NORMAL" else "P")
        folder.mkdir(parents=True, exist_ok=True)
        pattern = names[folder.name]
        name = (
            pattern.format(index, 1)
            if kind == "NORMAL"
            else pattern.format(index, kind, 1)
        )
        Image.fromarray(films.film(random, kind != "NORMAL")).save(folder / name)
    pattern = ("--class_pattern", "bacteria|virus")
    manifest, row = train_and_score("custom_cnn", data, night, tmp_path, *pattern)
    assert manifest.task == "multiclass"
    assert manifest.classes == ("BACTERIA", "NORMAL", "VIRUS")
    assert manifest.findings == ("BACTERIA", "VIRUS")
    bacteria, _, virus = row["probabilities"]
    assert row["score"] == pytest.approx(bacteria + virus, abs=1e-6)


def test_a_model_of_several_labels_scores(night, tmp_path):
    random = np.random.default_rng(3)
    rows = []
    for index in range(80):
        labels = ("", "MASS", "EFFUSION", "EFFUSION|MASS")[index % 4]
        Image.fromarray(films.film(random, bool(labels))).save(
            tmp_path / f"{index}.png"
        )
        rows.append({"path": f"{index}.png", "labels": labels})
    table = films.write_table(tmp_path, rows)
    manifest, row = train_and_score("custom_cnn", table, night, tmp_path)
    assert manifest.task == "multilabel"
    assert manifest.findings == manifest.classes == ("EFFUSION", "MASS")
    assert row["label"] is None
    assert row["score"] == pytest.approx(max(row["probabilities"]))
    points = manifest.operating_points
    assert {len(point.thresholds) for point in points.values()} == {2}
    held_out = predictions.load(tmp_path / "model.training" / predictions.FILE).part(
        "held_out"
    )
    flagged = held_out.probabilities >= points["default"].thresholds
    right = flagged.any(axis=1) == held_out.labels.any(axis=1)
    assert manifest.metrics["accuracy"].value == pytest.approx(right.mean())
