"""A SavedModel: verified, loaded and called. The job's only import of TensorFlow."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beam_pipeline import manifest as manifests
from beam_pipeline.manifest import Manifest, ManifestError

_SIGNATURE = "serving_default"
_NOTICE = re.compile(
    r"I0000 |WARNING: All log messages before absl|To enable the following instructions"
    r"|E0000 .*failed call to cuInit: .*UNKNOWN ERROR \(303\)|$"
)


@dataclass(frozen=True)
class Inference:
    """What the model says of a batch.

    Attributes:
        probabilities: float32, (images, classes), calibrated.
        logits: float32, (images, classes), before calibration.
        outlier_score: float32, (images,), the higher the less like the training data;
            None where the model has none.
    """

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    outlier_score: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class SavedModel:
    """A loaded model. Safe to call from several threads.

    Attributes:
        manifest: what the model says about itself.
        digest: `sha256:…` of its files and manifest.
        signature: TensorFlow's function for `serving_default`.
    """

    manifest: Manifest
    digest: str
    signature: Any

    def infer(self, images: NDArray[np.uint8]) -> Inference:
        """What the model says of uint8 images, (images, height, width, 1).

        Raises:
            OutOfMemory: the device cannot hold the batch; a smaller one may fit.
        """
        import tensorflow as tf

        try:
            outputs = self.signature(image=tf.constant(images))
        except tf.errors.ResourceExhaustedError as error:
            raise OutOfMemory(f"a batch of {len(images)} images") from error
        return Inference(
            probabilities=outputs["probabilities"].numpy(),
            logits=outputs["logits"].numpy(),
            # Another output of that name is not the one that the contract describes.
            outlier_score=(
                None
                if self.manifest.outlier is None
                else outputs["outlier_score"].numpy()
            ),
        )


class OutOfMemory(RuntimeError):
    """The device has not the memory for a batch of this size."""


def load(model_dir: Path) -> SavedModel:
    """The model in `model_dir`, once its files are found to be those of its manifest.

    Raises:
        ManifestError: a changed file, or a signature that is not the contract's.
    """
    manifest = manifests.load(model_dir)
    digest = manifests.verify(manifest, model_dir)
    tf = _tensorflow()
    loaded = tf.saved_model.load(str(model_dir))
    signature = loaded.signatures.get(_SIGNATURE)
    _check(signature, manifest, model_dir)
    # The signature holds its variables weakly: without the whole it stops working.
    signature.owner = loaded
    return SavedModel(manifest, digest, signature)


def devices() -> list[str]:
    """The GPUs that TensorFlow can use, by name; empty on a machine without."""
    tf = _tensorflow()
    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]


def _tensorflow() -> Any:
    # Before the import, which reads it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_native_notices():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Otherwise the first process takes all of the GPU's memory. It can be set only
        # until the device is used, and a process that loads twice has used it.
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)
    return tf


@contextmanager
def _without_native_notices() -> Iterator[None]:
    """Keep back what TensorFlow notes on descriptor 2 before its log levels hold.

    On a machine without a GPU those are ten lines that say so. Warnings and errors are
    passed on; so is everything when the import fails.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as kept:
        os.dup2(kept.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            lines = [line for line in kept if failed or not _NOTICE.match(line)]
            os.write(2, "".join(lines).encode())


def _check(signature: Any, manifest: Manifest, model_dir: Path) -> None:
    if signature is None:
        raise ManifestError(f"{model_dir} has no signature {_SIGNATURE!r}")
    inputs = {
        name: (spec.dtype.name, tuple(spec.shape))
        for name, spec in signature.structured_input_signature[1].items()
    }
    preparation = manifest.preparation
    shape = (None, preparation.height, preparation.width, 1)
    expected = {"image": ("uint8", shape)}
    if inputs != expected:
        raise ManifestError(
            f"{model_dir} takes {inputs}; its manifest promises {expected}"
        )
    for name, promised in _promised_outputs(manifest).items():
        spec = signature.structured_outputs.get(name)
        if spec is None or spec.dtype.name != "float32" or not _fits(spec, promised):
            found = None if spec is None else (spec.dtype.name, tuple(spec.shape))
            raise ManifestError(
                f"{model_dir} gives {name} as {found}; its manifest promises "
                f"{('float32', (None, *promised))}"
            )


def _promised_outputs(manifest: Manifest) -> dict[str, tuple[int | str, ...]]:
    """The shape of every output without its first dimension, the batch."""
    classes = len(manifest.classes)
    promised: dict[str, tuple[int | str, ...]] = {
        "probabilities": (classes,),
        "logits": (classes,),
        "embedding": ("n",),
    }
    return promised if manifest.outlier is None else {**promised, "outlier_score": ()}


def _fits(spec: Any, promised: tuple[int | str, ...]) -> bool:
    """Whether a shape is the promised one, in which `n` stands for any known size."""
    if spec.shape.rank != 1 + len(promised):
        return False
    batch, *sizes = spec.shape
    return batch is None and all(
        size is not None and wanted in (size, "n")
        for size, wanted in zip(sizes, promised, strict=True)
    )
