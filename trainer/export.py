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

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from beam_pipeline.manifest import Manifest

_PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "pydicom", "scikit-learn")
_TOLERANCE = 1e-4


class ExportError(RuntimeError):
    """The model on disk does not do what the trained model did."""


def export(
    network: keras.Model,
    manifest: Manifest,
    model_dir: Path,
    examples: NDArray[np.uint8],
) -> None:
    """Write the SavedModel and its manifest to `model_dir`, which must not exist.

    The model is written beside it, loaded as the pipeline will load it, compared on
    `examples` (uint8, (images, height, width, 1)), and only then given its name.

    Raises:
        ExportError: the model on disk gives other probabilities.
    """
    partial = model_dir.with_name(model_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    served = _Served(network, manifest.calibration.temperature)
    tf.saved_model.save(served, str(partial), {"serving_default": served.serve})
    complete = replace(manifest, files=manifests.file_digests(partial))
    manifests.save(complete, partial)
    _compare(served, partial, examples)
    partial.rename(model_dir)


def package_versions() -> dict[str, str]:
    """The versions of the packages that a model depends on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


class _Served(tf.Module):
    """The signature of the model contract around a network and its temperature."""

    def __init__(self, network: keras.Model, temperature: float) -> None:
        super().__init__()
        self.network = network
        height, width, _ = network.input.shape[1:]
        image = tf.TensorSpec((None, height, width, 1), tf.uint8, name="image")

        def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
            logits, embedding = network(tf.cast(image, tf.float32), training=False)
            return {
                "probabilities": tf.nn.softmax(logits / temperature),
                "logits": logits,
                "embedding": embedding,
            }

        self.serve = tf.function(serve, input_signature=[image])


def _compare(served: _Served, model_dir: Path, examples: NDArray[np.uint8]) -> None:
    expected = served.serve(tf.constant(examples))["probabilities"].numpy()
    found = saved_model.load(model_dir).infer(examples).probabilities
    difference = float(np.abs(expected - found).max())
    if not difference <= _TOLERANCE:
        raise ExportError(
            f"the SavedModel in {model_dir} differs from the trained model by "
            f"{difference:.2g} in probability; at most {_TOLERANCE} is expected"
        )
