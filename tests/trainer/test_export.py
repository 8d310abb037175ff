"""The exported model is the trained one, with the signature of the contract."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from beam_pipeline.manifest import Calibration, Preparation
from tests import radiographs
from tests.trainer import films
from trainer import architectures, export, outlier
from trainer.data import pixels as model_inputs
from trainer.export import ExportError
from trainer.serving import Network, Shape

TEMPERATURE = 2.5
PREPARATION = Preparation(height=films.SIZE, width=films.SIZE)


def manifest(scorer):
    calibration = Calibration(
        method="temperature", temperature=TEMPERATURE, chosen_on="validation"
    )
    return radiographs.manifest(
        preparation=PREPARATION,
        calibration=calibration,
        outlier=radiographs.OUTLIER,
        explanation=scorer.explanation,
    )


@pytest.fixture(scope="module")
def network(tiny):
    keras.utils.set_random_seed(3)
    network = architectures.build(tiny, 2, None)
    head = network.get_layer("head").get_layer("logits")
    # Far enough apart that the temperature matters; whatever speaks against one class
    # speaks for the other.
    kernel, bias = head.get_weights()
    kernel[:, 1] = -kernel[:, 0]
    head.set_weights([16 * kernel, bias])
    return network


@pytest.fixture(scope="module")
def pixels():
    return films.films(seed=4, count=7)[0]


@pytest.fixture(scope="module")
def score(network, pixels):
    targets = np.zeros((len(pixels), 2), np.float32)
    batches = model_inputs.batches(pixels, targets, np.arange(len(pixels)), 4)
    return outlier.fit(network, batches, batches)


SHAPE = Shape(size=(films.SIZE, films.SIZE), classes=2, findings=(1,), task="binary")


@pytest.fixture(scope="module")
def scorer(network, score):
    return Network(network, SHAPE, score.in_graph)


@pytest.fixture(scope="module")
def model_dir(scorer, pixels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    export.export(scorer, manifest(scorer), folder, pixels, {"NOTE.md": "a note"})
    return folder


def test_the_signature_is_that_of_the_contract(model_dir):
    signature = tf.saved_model.load(str(model_dir)).signatures["serving_default"]
    _, inputs = signature.structured_input_signature
    assert {name: (s.dtype, tuple(s.shape)) for name, s in inputs.items()} == {
        "image": (tf.uint8, (None, films.SIZE, films.SIZE, 1))
    }
    outputs = signature.structured_outputs
    assert {name: (s.dtype, tuple(s.shape)) for name, s in outputs.items()} == {
        "probabilities": (tf.float32, (None, 2)),
        "logits": (tf.float32, (None, 2)),
        "embedding": (tf.float32, (None, 8)),
        "outlier_score": (tf.float32, (None,)),
    }


def test_logits_and_embedding_are_those_of_the_network(model_dir, network, pixels):
    owner = tf.saved_model.load(str(model_dir))
    found = owner.signatures["serving_default"](image=tf.constant(pixels))
    logits, embedding, _ = network(pixels.astype(np.float32), training=False)
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["embedding"], embedding, rtol=1e-4, atol=1e-4)


def test_probabilities_are_the_softmax_of_logits_by_temperature(model_dir, pixels):
    found = saved_model.load(model_dir).infer(pixels)
    scaled = np.exp(found.logits.astype(np.float64) / TEMPERATURE)
    expected = scaled / scaled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert np.ptp(found.logits) > 1


def test_one_image_has_the_score_that_it_has_in_a_batch(model_dir, pixels):
    model = saved_model.load(model_dir)
    batch = model.infer(pixels).probabilities
    single = np.concatenate([model.infer(p[None]).probabilities for p in pixels])
    np.testing.assert_allclose(single, batch, atol=1e-5)


def test_the_manifest_is_the_given_one_with_the_digest_of_every_file(model_dir, scorer):
    found = manifests.load(model_dir)
    files = {
        path.relative_to(model_dir).as_posix(): path.read_bytes()
        for path in model_dir.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert "saved_model.pb" in files
    assert found.files == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    assert found.calibration == manifest(scorer).calibration
    assert found.eligibility == manifest(scorer).eligibility
    assert found.operating_points == manifest(scorer).operating_points


def test_nothing_stays_beside_the_model(model_dir):
    assert [path.name for path in model_dir.parent.iterdir()] == ["model"]


def test_the_outlier_score_is_that_of_the_network_and_numpy(
    model_dir, network, score, pixels
):
    strange = np.concatenate([pixels, 255 - pixels])
    layout = network(strange.astype(np.float32), training=False)[2].numpy()
    found = saved_model.load(model_dir).infer(strange).outlier_score
    np.testing.assert_allclose(found, score(layout), rtol=1e-3)


def test_what_an_interrupted_export_left_is_no_part_of_the_model(
    scorer, pixels, tmp_path
):
    stale = tmp_path / "model.partial" / "variables"
    stale.mkdir(parents=True)
    (stale / "stale").touch()
    export.export(scorer, manifest(scorer), tmp_path / "model", pixels)
    assert not list(tmp_path.rglob("stale"))
    saved_model.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("output", "apart", "message"),
    [
        ("probabilities", 1e-3, r"by 0\.001 in probabilities"),
        ("outlier_score", 1e-2, r"by 0\.01 in outlier_score"),
    ],
)
def test_a_model_that_does_something_else_on_disk_gets_no_name(
    scorer, pixels, tmp_path, monkeypatch, output, apart, message
):
    def load(folder):
        genuine = saved_model.load(folder).infer(pixels)
        moved = {output: getattr(genuine, output) + np.float32(apart)}
        other = dataclasses.replace(genuine, **moved)
        return types.SimpleNamespace(infer=lambda _: other)

    monkeypatch.setattr(export, "saved_model", types.SimpleNamespace(load=load))
    with pytest.raises(ExportError, match=message):
        export.export(scorer, manifest(scorer), tmp_path / "model", pixels)
    assert not (tmp_path / "model").exists()


def test_a_graph_with_another_temperature_than_the_manifest_gets_no_name(
    scorer, pixels, tmp_path, monkeypatch
):
    class Forgetful(export._Served):
        def __init__(self, scorer, manifest):
            calibration = dataclasses.replace(manifest.calibration, temperature=1.0)
            super().__init__(
                scorer, dataclasses.replace(manifest, calibration=calibration)
            )

    monkeypatch.setattr(export, "_Served", Forgetful)
    with pytest.raises(ExportError, match="in probabilities"):
        export.export(scorer, manifest(scorer), tmp_path / "model", pixels)


def test_a_model_whose_probabilities_are_not_numbers_gets_no_name(
    tiny, scorer, pixels, tmp_path
):
    broken = architectures.build(tiny, 2, None)
    last = broken.get_layer("head").get_layer("logits")
    last.set_weights([np.nan * weights for weights in last.get_weights()])
    with pytest.raises(ExportError, match="nan"):
        export.export(
            Network(broken, SHAPE, lambda layout: layout[:, 0, 0, 0]),
            manifest(scorer),
            tmp_path / "model",
            pixels,
        )
    assert not (tmp_path / "model").exists()


def test_documents_lie_beside_the_manifest(model_dir):
    assert (model_dir / "assets.extra" / "NOTE.md").read_text("utf-8") == "a note"
    assert "assets.extra/NOTE.md" in manifests.load(model_dir).files


def grad_cam(network, pixels, classes):
    """Grad-CAM of a head that averages and has one layer, without any gradient.

    The logit is linear in the features, so its gradient is the kernel over the places.
    """
    features = np.asarray(network.get_layer("body")(pixels.astype(np.float32))[0])
    kernel, _ = network.get_layer("head").get_layer("logits").get_weights()
    places = features.shape[1] * features.shape[2]
    weights = kernel[:, classes].T[:, np.newaxis, np.newaxis] / places
    maps = np.maximum((features * weights).sum(axis=-1, keepdims=True), 0)
    resized = np.asarray(tf.image.resize(maps, (films.SIZE, films.SIZE)))[..., 0]
    largest = resized.max(axis=(1, 2), keepdims=True)
    return np.divide(resized, largest, out=np.zeros_like(resized), where=largest > 0)


def test_the_explanation_is_grad_cam(model_dir, network, pixels):
    explain = tf.saved_model.load(str(model_dir)).signatures["explain"]
    classes = np.arange(len(pixels)) % 2
    found = explain(
        image=tf.constant(pixels), class_index=tf.constant(classes, tf.int32)
    )["heatmap"].numpy()
    assert (found.dtype, found.shape) == (np.float32, (7, films.SIZE, films.SIZE))
    np.testing.assert_allclose(found, grad_cam(network, pixels, classes), atol=1e-4)
    assert found.min() >= 0
    # Of each image something is shown, or nothing speaks for that class.
    assert set(np.round(found.max(axis=(1, 2)), 5)) <= {0.0, 1.0}
    assert found.max() == pytest.approx(1)


def test_a_model_without_an_explanation_has_no_signature_for_one(
    scorer, pixels, tmp_path
):
    silent = dataclasses.replace(manifest(scorer), explanation=None)
    export.export(scorer, silent, tmp_path / "model", pixels)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    assert list(loaded.signatures) == ["serving_default"]


def test_package_versions_are_the_installed_ones():
    found = export.package_versions()
    assert found["tensorflow"] == tf.__version__
    assert found["scikit-learn"] == importlib.metadata.version("scikit-learn")
