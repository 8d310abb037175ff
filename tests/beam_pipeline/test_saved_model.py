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


def test_a_model_without_the_outlier_score_of_its_manifest_is_refused(
    tmp_path: Path,
) -> None:
    folder = radiographs.save_model(tmp_path / "model", outlier=radiographs.OUTLIER)
    with pytest.raises(ManifestError, match="gives outlier_score as None"):
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
