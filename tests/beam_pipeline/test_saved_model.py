from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from beam_pipeline import saved_model
from beam_pipeline.manifest import ManifestError
from tests import radiographs
from tests.radiographs import SIZE


def test_a_model_answers_as_its_graph_says(model_dir: Path) -> None:
    model = saved_model.load(model_dir)
    images = np.stack([np.full((SIZE, SIZE, 1), v, np.uint8) for v in (0, 100, 255)])
    found = model.infer(images)
    expected = [radiographs.brightness_score(v) for v in (0, 100, 255)]
    np.testing.assert_allclose(found.probabilities[:, 1], expected, atol=1e-6)
    assert found.probabilities.dtype == found.logits.dtype == np.float32


def test_a_changed_weight_is_refused(tmp_path: Path) -> None:
    folder = radiographs.save_model(tmp_path / "model")
    graph = folder / "saved_model.pb"
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(ManifestError, match=r"changed: saved_model\.pb"):
        saved_model.load(folder)


def test_an_outlier_score_is_there_where_the_manifest_promises_one(
    tmp_path: Path, model_dir: Path
) -> None:
    module = radiographs.OutlierBrightness()
    folder = radiographs.save_model(
        tmp_path / "model", module, outlier=radiographs.OUTLIER
    )
    images = np.stack([np.full((SIZE, SIZE, 1), v, np.uint8) for v in (0, 102, 255)])
    found = saved_model.load(folder).infer(images)
    np.testing.assert_allclose(found.outlier_score, [0.5, 0.1, 0.5], atol=1e-6)
    assert found.outlier_score.dtype == np.float32
    assert saved_model.load(model_dir).infer(images).outlier_score is None


def test_an_outlier_score_that_no_manifest_describes_is_left_alone(
    tmp_path: Path,
) -> None:
    folder = radiographs.save_model(tmp_path / "model", radiographs.OutlierBrightness())
    images = np.zeros((1, SIZE, SIZE, 1), np.uint8)
    assert saved_model.load(folder).infer(images).outlier_score is None


def test_a_spread_is_there_where_the_manifest_promises_one(
    tmp_path: Path, model_dir: Path
) -> None:
    folder = radiographs.save_model(
        tmp_path / "model", radiographs.SpreadBrightness(), spread=radiographs.SPREAD
    )
    images = np.stack([np.full((SIZE, SIZE, 1), v, np.uint8) for v in (0, 102, 255)])
    found = saved_model.load(folder).infer(images)
    np.testing.assert_allclose(found.spread, [0, 0.04, 0.1], atol=1e-6)
    assert found.outlier_score is None
    assert saved_model.load(model_dir).infer(images).spread is None


def test_a_model_shows_where_it_saw_a_class(tmp_path: Path) -> None:
    folder = radiographs.save_model(
        tmp_path / "model",
        radiographs.ExplainedBrightness(),
        explanation=radiographs.EXPLANATION,
    )
    image = np.zeros((SIZE, SIZE, 1), np.uint8)
    image[:, SIZE // 2 :] = 255
    model = saved_model.load(folder)
    bright, dark = model.explain(np.stack([image, image]), np.array([1, 0], np.int32))
    expected = np.repeat([[0.0] * 4 + [1.0] * 4], 4, axis=0)
    np.testing.assert_allclose(bright, expected, atol=1e-6)
    np.testing.assert_allclose(dark, 1 - expected, atol=1e-6)
    assert bright.dtype == np.float32
    with pytest.raises(ValueError, match="from 0 to 1"):
        model.explain(image[np.newaxis], np.array([2], np.int32))


def test_a_model_without_explanation_says_so(model_dir: Path) -> None:
    images = np.zeros((1, SIZE, SIZE, 1), np.uint8)
    with pytest.raises(ManifestError, match="brightness 1 explains nothing"):
        saved_model.load(model_dir).explain(images, np.zeros(1, np.int32))


class SmallHeatmap(radiographs.ExplainedBrightness):
    @tf.function(
        input_signature=[
            tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image"),
            tf.TensorSpec((None,), tf.int32, name="class_index"),
        ]
    )
    def explain(self, image: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
        heatmap = super().explain(image, class_index)["heatmap"]
        return {"heatmap": heatmap[:, :2, :2]}


class WithoutClass(radiographs.Brightness):
    @tf.function(
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image")]
    )
    def explain(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"heatmap": tf.image.resize(image, (4, 8))[..., 0] / 255}


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (radiographs.Brightness, "has no signature 'explain'"),
        (SmallHeatmap, r"gives heatmap as \('float32', \(None, 2, 2\)\)"),
        (WithoutClass, "its manifest promises .*class_index"),
    ],
)
def test_another_explanation_than_the_manifests_is_refused(
    tmp_path: Path, module: type[tf.Module], message: str
) -> None:
    folder = radiographs.save_model(
        tmp_path / "model", module(), explanation=radiographs.EXPLANATION
    )
    with pytest.raises(ManifestError, match=message):
        saved_model.load(folder)


class WithoutLogits(radiographs.Brightness):
    @tf.function(
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image")]
    )
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        mean = tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2, 3])
        return {"probabilities": tf.stack([mean, mean], axis=1)}


class WithoutEmbedding(radiographs.Brightness):
    @tf.function(
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image")]
    )
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = super().serve(image)
        return {name: outputs[name] for name in ("probabilities", "logits")}


class FlatEmbedding(radiographs.Brightness):
    @tf.function(
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image")]
    )
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = super().serve(image)
        return {**outputs, "embedding": outputs["embedding"][:, 0]}


class Floating(tf.Module):
    @tf.function(
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1), tf.float32, name="x")]
    )
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        mean = tf.reduce_mean(x, axis=[1, 2, 3])
        both = tf.stack([mean, mean], axis=1)
        return {"probabilities": both, "logits": both}


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (WithoutLogits, "gives logits as None"),
        (WithoutEmbedding, "gives embedding as None"),
        (FlatEmbedding, r"gives embedding as \('float32', \(None,\)\)"),
        (Floating, "takes {'x'"),
    ],
)
def test_another_signature_than_the_contracts_is_refused(
    tmp_path: Path, module: type[tf.Module], message: str
) -> None:
    folder = radiographs.save_model(tmp_path / "model", module())
    with pytest.raises(ManifestError, match=message):
        saved_model.load(folder)


@pytest.mark.parametrize(
    ("name", "promise"),
    [("outlier_score", "outlier"), ("spread", "spread")],
)
def test_a_model_without_an_output_of_its_manifest_is_refused(
    tmp_path: Path, name: str, promise: str
) -> None:
    described = {"outlier": radiographs.OUTLIER, "spread": radiographs.SPREAD}
    changes = {promise: described[promise]}
    folder = radiographs.save_model(tmp_path / "model", **changes)
    with pytest.raises(ManifestError, match=f"gives {name} as None"):
        saved_model.load(folder)


def test_a_model_of_another_size_than_its_manifest_is_refused(tmp_path: Path) -> None:
    from beam_pipeline.manifest import Preparation

    folder = radiographs.save_model(
        tmp_path / "model", preparation=Preparation(height=64, width=64)
    )
    with pytest.raises(ManifestError, match="64"):
        saved_model.load(folder)


def test_importing_the_job_does_not_import_tensorflow() -> None:
    code = (
        "import sys, beam_pipeline.pipeline, beam_pipeline.score; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_loading_says_nothing_where_all_is_well(model_dir: Path) -> None:
    code = (
        "from pathlib import Path; from beam_pipeline import saved_model; "
        f"saved_model.load(Path({str(model_dir)!r}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
