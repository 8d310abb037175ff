"""An ensemble answers with the mean of its members, from one SavedModel."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from beam_pipeline.manifest import MANIFEST_PATH
from tests.trainer import films
from trainer import __main__, architectures, ensemble, outlier, train
from trainer import run as runs
from trainer.card import Card
from trainer.data import pixels
from trainer.data.dataset import Naming
from trainer.data.split import Division
from trainer.evaluation import evaluate
from trainer.recipes import Head, Recipe, Stage, plain
from trainer.run import Run
from trainer.serving import Network

SEED = 5
RECIPE = Recipe(
    backbone="custom_cnn",
    image_size=films.SIZE,
    head=Head(pooling="average"),
    stages=(Stage(unfrozen=1, epochs=1, learning_rate=1e-3),),
)


@dataclass(frozen=True)
class Models:
    """A folder with models of the same films: whole ones, and one without extras."""

    data: Path
    one: Path
    two: Path
    bare: Path

    def combine(self, members, output, *flags):
        """The exit code of `ensemble`."""
        return __main__.main(
            [
                "ensemble",
                *map(str, members),
                *("--data", str(self.data)),
                *("--split_seed", str(SEED)),
                *("--min_validation", "3"),
                *("--output", str(output)),
                *flags,
            ]
        )


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "_RESAMPLES", 50)
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Networks that were not trained: they disagree more than trained ones do."""
    folder = tmp_path_factory.mktemp("members")
    found = Models(
        films.write_class_folders(folder / "films"),
        *(folder / name for name in ("one", "two", "bare")),
    )
    for seed, model_dir in enumerate((found.one, found.two, found.bare)):
        run = Run(
            data=found.data,
            naming=Naming(),
            division=Division(seed=SEED, least_validation=3),
            output=model_dir,
            card=Card(source="made in code"),
            seed=SEED,
            cache=folder / "cache",
            recipe=RECIPE,
            weights=None,
        )
        data = runs.read(run)
        scorer = network(data, seed, whole=model_dir != found.bare)
        train.finish(run, data, scorer, plain(RECIPE))
    return found


def network(data, seed, *, whole):
    keras.utils.set_random_seed(seed)
    built = architectures.build(RECIPE, 2, None)
    head = built.get_layer("head").get_layer("logits")
    # Far enough apart that the temperatures matter.
    head.set_weights([30 * weights for weights in head.get_weights()])
    score = None
    if whole:
        targets = data.examples.labels.astype(np.float32)
        plain_ = pixels.batches(data.pixels, targets, data.rows("training"), 16)
        score = outlier.fit(built, plain_, plain_).in_graph
    scorer = Network(built, data.shape, score)
    if not whole:
        scorer.explanation = None
    return scorer


@pytest.fixture(scope="module")
def combined(models, tmp_path_factory):
    """The ensemble of copies of two models, which are gone since."""
    folder = tmp_path_factory.mktemp("combined")
    members = [
        shutil.copytree(model_dir, folder / model_dir.name)
        for model_dir in (models.one, models.two)
    ]
    assert models.combine(members, folder / "both") == 0
    for member in members:
        shutil.rmtree(member)
    return folder / "both"


@pytest.fixture(scope="module")
def images():
    return films.films(seed=9, count=12)[0]


@pytest.fixture(scope="module")
def answer(combined, images):
    loaded = tf.saved_model.load(str(combined))
    return {
        name: value.numpy()
        for name, value in loaded.signatures["serving_default"](
            image=tf.constant(images)
        ).items()
    }


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def inferred(models, images):
    return [saved_model.load(path).infer(images) for path in (models.one, models.two)]


def test_before_its_own_temperature_an_ensemble_gives_the_mean(answer, inferred):
    each = np.stack([found.probabilities for found in inferred])
    np.testing.assert_allclose(softmax(answer["logits"]), each.mean(axis=0), atol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 0.05


def test_the_probabilities_are_calibrated_once_more(combined, answer):
    temperature = manifests.load(combined).calibration.temperature
    expected = softmax(answer["logits"] / temperature)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)


def test_the_spread_is_the_standard_deviation_of_the_members_scores(answer, inferred):
    scores = [found.probabilities[:, 1] for found in inferred]
    np.testing.assert_allclose(answer["spread"], np.std(scores, axis=0), atol=1e-5)


def test_the_outlier_score_is_the_mean_of_the_members(answer, inferred):
    expected = np.mean([found.outlier_score for found in inferred], axis=0)
    np.testing.assert_allclose(answer["outlier_score"], expected, rtol=1e-4)


def test_the_heatmap_is_the_mean_of_the_members(models, combined, images):
    def heatmap(model_dir):
        explain = tf.saved_model.load(str(model_dir)).signatures["explain"]
        index = tf.ones(len(images), tf.int32)
        return explain(image=tf.constant(images), class_index=index)["heatmap"].numpy()

    expected = heatmap(models.one) + heatmap(models.two)
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-9)
    np.testing.assert_allclose(heatmap(combined), expected, atol=1e-4)


def test_the_pipeline_loads_it_without_its_members(combined, images, answer):
    found = saved_model.load(combined).infer(images)
    np.testing.assert_allclose(found.probabilities, answer["probabilities"], atol=1e-6)


def test_the_manifest_names_the_members(models, combined):
    found = manifests.load(combined)
    members = []
    for model_dir in (models.one, models.two):
        member = manifests.load(model_dir)
        digest = manifests.verify(member, model_dir)
        members.append(f"{member.name} {member.version} {digest}")
    assert found.recipe == {"ensemble": members}
    assert (found.spread.method, found.spread.of) == ("ensemble", 2)
    assert found.explanation.method.endswith("mean of 2 members")
    assert found.outlier.features.startswith("mean of 2 members: custom_cnn")


def test_the_manifest_says_of_its_use_what_the_members_say(models, combined):
    found, member = manifests.load(combined), manifests.load(models.one)
    assert found.training_data == member.training_data
    assert found.eligibility == member.eligibility
    assert found.findings == member.findings == ("PNEUMONIA",)
    assert (found.name, found.version) == ("both", "1")


def test_an_ensemble_has_only_what_each_member_has(models, tmp_path):
    assert models.combine([models.one, models.bare], tmp_path / "both") == 0
    found = manifests.load(tmp_path / "both")
    assert found.outlier is None
    assert found.explanation is None
    loaded = tf.saved_model.load(str(tmp_path / "both"))
    assert list(loaded.signatures) == ["serving_default"]
    outputs = loaded.signatures["serving_default"].structured_outputs
    assert set(outputs) == {"logits", "probabilities", "embedding", "spread"}


def altered(models, tmp_path, change):
    """A copy of a model whose manifest says something else."""
    model_dir = shutil.copytree(models.two, tmp_path / "altered")
    path = model_dir / MANIFEST_PATH
    document = json.loads(path.read_text("utf-8"))
    change(document)
    path.write_text(json.dumps(document), "utf-8")
    return model_dir


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: manifest["preparation"].update(height=48),
            "differ in preparation: v1:32x32:stretch:auto:reduced against v1:32x48",
        ),
        (
            lambda manifest: (
                manifest.update(classes=["NORMAL", "TUBERCULOSIS"])
                or manifest.update(findings=["TUBERCULOSIS"])
            ),
            "differ in classes: NORMAL, PNEUMONIA against NORMAL, TUBERCULOSIS",
        ),
        (
            lambda manifest: manifest.update(findings=["NORMAL"]),
            "differ in findings: PNEUMONIA against NORMAL",
        ),
    ],
)
def test_members_must_answer_the_same_question(models, tmp_path, change, message):
    other = altered(models, tmp_path, change)
    with pytest.raises(ValueError, match=message):
        ensemble.members([models.one, other])


def test_a_model_counts_once(models, tmp_path):
    copy = shutil.copytree(models.one, tmp_path / "copy")
    with pytest.raises(ValueError, match="the same model"):
        ensemble.members([models.one, models.two, copy])


def test_one_model_is_no_ensemble(models):
    with pytest.raises(ValueError, match="two models or more"):
        ensemble.members([models.one])


def test_a_member_whose_files_were_changed_is_refused(models, tmp_path):
    copy = shutil.copytree(models.two, tmp_path / "copy")
    (copy / "added").touch()
    with pytest.raises(manifests.ManifestError, match="added"):
        ensemble.members([models.one, copy])


def test_members_that_may_have_seen_the_held_out_patients_are_refused(
    models, tmp_path, capsys
):
    both = [models.one, models.two]
    assert models.combine(both, tmp_path / "both", "--split_seed", "6") == 2
    assert "another division" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()


def test_a_member_that_does_not_say_how_its_patients_were_divided_is_refused(
    models, tmp_path, capsys
):
    silent = altered(
        models, tmp_path, lambda m: m["training_data"].update(split_digest=None)
    )
    assert models.combine([models.one, silent], tmp_path / "both") == 2
    assert f"{silent} was trained on other patients" in capsys.readouterr().err


def test_members_for_different_uses_need_a_card(models, tmp_path, capsys):
    other = altered(models, tmp_path, lambda m: m.update(limits="adults only"))
    both = [models.one, other]
    assert models.combine(both, tmp_path / "both") == 2
    assert "differ in limits; say with --card" in capsys.readouterr().err


def test_a_card_says_what_holds_for_the_ensemble(models):
    members = ensemble.members([models.one, models.two])
    stated = ensemble.card(members)
    assert stated == replace(
        Card(source="made in code"), findings=("PNEUMONIA",), name="", version="1"
    )
