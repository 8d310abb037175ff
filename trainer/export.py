"""Keras model → SavedModel with its manifest, reloaded from disk and compared."""

from __future__ import annotations

import importlib.metadata
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import softmax

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from beam_pipeline.manifest import Manifest
from trainer.outlier import OutlierScore

_PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "pydicom", "scikit-learn")
_TOLERANCE = {"probability": 1e-4, "outlier score": 1e-3}


class ExportError(RuntimeError):
    """The model on disk does not do what the trained model did."""


def export(
    network: keras.Model,
    outlier_score: OutlierScore,
    manifest: Manifest,
    model_dir: Path,
    examples: NDArray[np.uint8],
) -> None:
    """Write the SavedModel and its manifest to `model_dir`, which must not exist.

    The model is written beside it, loaded as the pipeline will load it, compared on
    `examples` (uint8, (images, height, width, 1)), and only then given its name.

    Raises:
        ExportError: the model on disk gives other probabilities or outlier scores.
    """
    partial = model_dir.with_name(model_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    temperature = manifest.calibration.temperature
    served = _Served(network, outlier_score, temperature)
    tf.saved_model.save(served, str(partial), {"serving_default": served.serve})
    complete = replace(manifest, files=manifests.file_digests(partial))
    manifests.save(complete, partial)
    logits, _, layout = (
        output.numpy() for output in network(examples.astype(np.float32))
    )
    found = saved_model.load(partial).infer(examples)
    _compare("probability", found.probabilities, softmax(logits / temperature, axis=1))
    _compare("outlier score", found.outlier_score, outlier_score(layout))
    partial.rename(model_dir)


def package_versions() -> dict[str, str]:
    """The versions of the packages that a model depends on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


class _Served(tf.Module):
    """The signature of the model contract around a network and what follows it."""

    def __init__(
        self, network: keras.Model, outlier_score: OutlierScore, temperature: float
    ) -> None:
        super().__init__()
        self.network = network
        height, width, _ = network.input.shape[1:]
        image = tf.TensorSpec((None, height, width, 1), tf.uint8, name="image")

        def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
            pixels = tf.cast(image, tf.float32)
            logits, embedding, layout = network(pixels, training=False)
            return {
                "probabilities": tf.nn.softmax(logits / temperature),
                "logits": logits,
                "embedding": embedding,
                "outlier_score": outlier_score.in_graph(layout),
            }

        self.serve = tf.function(serve, input_signature=[image])


def _compare(
    what: str, found: NDArray[np.float32] | None, expected: NDArray[np.floating]
) -> None:
    difference = np.nan if found is None else float(np.abs(expected - found).max())
    if not difference <= _TOLERANCE[what]:
        raise ExportError(
            f"the SavedModel differs from the trained model by {difference:.2g} in "
            f"{what}; at most {_TOLERANCE[what]} is expected"
        )
