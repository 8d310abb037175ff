"""Scorer → SavedModel with its manifest, reloaded from disk and compared."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from beam_pipeline.calibration import probabilities
from beam_pipeline.manifest import MANIFEST_PATH, Manifest
from trainer.serving import Scorer

_PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "pydicom", "scikit-learn")
_TOLERANCE = {"probabilities": 1e-4, "outlier_score": 1e-3, "spread": 1e-3}


class ExportError(RuntimeError):
    """The model on disk does not do what the trained model did."""


def export(
    scorer: Scorer,
    manifest: Manifest,
    model_dir: Path,
    examples: NDArray[np.uint8],
    documents: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the SavedModel and its manifest to `model_dir`, which must not exist.

    The model is written beside it, loaded as the pipeline will load it, compared on
    `examples` (uint8, (images, height, width, 1)), and only then given its name.

    `documents` are texts to lie beside the manifest, by file name.

    Raises:
        ExportError: the model on disk gives other values.
    """
    partial = model_dir.with_name(model_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    served = _Served(scorer, manifest)
    tf.saved_model.save(served, str(partial), served.functions)
    (partial / MANIFEST_PATH).parent.mkdir()
    for name, text in documents.items():
        (partial / MANIFEST_PATH).with_name(name).write_text(text, "utf-8")
    complete = replace(manifest, files=manifests.file_digests(partial))
    manifests.save(complete, partial)
    expected = {k: v.numpy() for k, v in scorer(tf.constant(examples)).items()}
    expected["probabilities"] = probabilities(
        expected["logits"], manifest.calibration.temperature, manifest.task
    )
    found = saved_model.load(partial).infer(examples)
    for name, tolerance in _TOLERANCE.items():
        if name in expected:
            _compare(name, getattr(found, name), expected[name], tolerance)
    partial.rename(model_dir)


def package_versions() -> dict[str, str]:
    """The versions of the packages that a model depends on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


class _Served(tf.Module):
    """The signatures of the model contract around a scorer."""

    def __init__(self, scorer: Scorer, manifest: Manifest) -> None:
        super().__init__()
        self.scorer = scorer
        temperature = manifest.calibration.temperature
        image = tf.TensorSpec((None, *scorer.shape.size, 1), tf.uint8, name="image")
        index = tf.TensorSpec((None,), tf.int32, name="class_index")

        def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
            answer = scorer(image)
            scaled = answer["logits"] / temperature
            return {**answer, "probabilities": scorer.shape.probabilities(scaled)}

        def explain(image: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"heatmap": scorer.heatmap(image, class_index)}

        self.functions = {
            "serving_default": tf.function(serve, input_signature=[image])
        }
        # TensorFlow traces whatever functions it finds, asked for or not.
        if manifest.explanation is not None:
            self.functions["explain"] = tf.function(
                explain, input_signature=[image, index]
            )


def _compare(
    what: str,
    found: NDArray[np.float32] | None,
    expected: NDArray[np.floating],
    tolerance: float,
) -> None:
    difference = np.nan if found is None else float(np.abs(expected - found).max())
    if not difference <= tolerance:
        raise ExportError(
            f"the SavedModel differs from the trained model by {difference:.2g} in "
            f"{what}; at most {tolerance} is expected"
        )
