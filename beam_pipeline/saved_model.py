"""A SavedModel: verified, loaded and called. The job's only import of TensorFlow."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beam_pipeline import manifest as manifests
from beam_pipeline.manifest import Manifest, ManifestError
from beam_pipeline.uncollected import uncollected

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
        spread: float32, (images,), the standard deviation of the score over members or
            augmentations; None where the model has none.
    """

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    outlier_score: NDArray[np.float32] | None = None
    spread: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class SavedModel:
    """A loaded model. Safe to call from several threads.

    Attributes:
        manifest: what the model says about itself.
        digest: `sha256:…` of its files and manifest.
        serve: TensorFlow's function for `serving_default`.
        explainer: the same for `explain`; None where the model has none.
    """

    manifest: Manifest
    digest: str
    serve: Any
    explainer: Any = None

    def infer(self, images: NDArray[np.uint8]) -> Inference:
        """What the model says of uint8 images, (images, height, width, 1).

        Raises:
            OutOfMemory: the device cannot hold the batch; a smaller one may fit.
        """
        return self.dispatch(images)()

    def dispatch(self, images: NDArray[np.uint8]) -> Callable[[], Inference]:
        """Hand a batch to the device; what is returned waits for the outcome.

        A GPU computes meanwhile, and can be handed the next batch; a CPU has computed
        when this returns. Both raise what `infer` does.
        """
        outputs = _called(self.serve, image=images)

        def fetch() -> Inference:
            # Another output of that name is not the one that the contract describes.
            promised = _promised_outputs(self.manifest)
            with _memory_for(images):
                return Inference(
                    **{n: outputs[n].numpy() for n in promised if n != "embedding"}
                )

        return fetch

    def explain(
        self, images: NDArray[np.uint8], class_indices: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Where in each image its class was seen: (images, height, width), in [0, 1].

        Args:
            images: uint8, (images, height, width, 1).
            class_indices: (images,), positions in the manifest's classes.

        Raises:
            ManifestError: the model has no signature `explain`.
            ValueError: an index that is none of a class.
            OutOfMemory: the device cannot hold the batch; a smaller one may fit.
        """
        if self.explainer is None:
            raise ManifestError(
                f"the model {self.manifest.name} {self.manifest.version} explains "
                "nothing: its manifest has no explanation. Export it again with one."
            )
        classes = len(self.manifest.classes)
        indices = np.asarray(class_indices, np.int32)
        if ((indices < 0) | (indices >= classes)).any():
            raise ValueError(f"class indices must be from 0 to {classes - 1}")
        outputs = _called(self.explainer, image=images, class_index=indices)
        heatmaps: NDArray[np.float32] = outputs["heatmap"].numpy()
        return heatmaps


class OutOfMemory(RuntimeError):
    """The device has not the memory for a batch of this size."""


def load(model_dir: Path) -> SavedModel:
    """The model in `model_dir`, once its files are found to be those of its manifest.

    Raises:
        ManifestError: a changed file, or a signature that is not the contract's.
    """
    manifest = manifests.load(model_dir)
    digest = manifests.verify(manifest, model_dir)
    tf = tensorflow()
    loaded = tf.saved_model.load(str(model_dir))
    serve, *others = [
        _checked(loaded, promise, model_dir) for promise in _promises(manifest)
    ]
    return SavedModel(manifest, digest, serve, *others)


def devices() -> list[str]:
    """The GPUs that TensorFlow can use, by name; empty on a machine without."""
    tf = tensorflow()
    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]


def tensorflow() -> Any:
    """TensorFlow, imported without the notices that it starts with.

    Whoever imports it or Keras calls this first.
    """
    # Before the import, which reads it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_native_notices(), uncollected():
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


def _called(signature: Any, **inputs: NDArray[Any]) -> Any:
    import tensorflow as tf

    with _memory_for(inputs["image"]):
        return signature(**{name: tf.constant(v) for name, v in inputs.items()})


@contextmanager
def _memory_for(images: NDArray[np.uint8]) -> Iterator[None]:
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise OutOfMemory(f"a batch of {len(images)} images") from error


@dataclass(frozen=True)
class _Promise:
    """A signature as the manifest promises it; sizes without the batch."""

    name: str
    inputs: dict[str, tuple[str, tuple[int | None, ...]]]
    outputs: dict[str, tuple[int | str, ...]]


def _promises(manifest: Manifest) -> Iterator[_Promise]:
    preparation = manifest.preparation
    image = ("uint8", (None, preparation.height, preparation.width, 1))
    yield _Promise("serving_default", {"image": image}, _promised_outputs(manifest))
    explanation = manifest.explanation
    if explanation is not None:
        inputs = {"image": image, "class_index": ("int32", (None,))}
        heatmap = (explanation.height, explanation.width)
        yield _Promise("explain", inputs, {"heatmap": heatmap})


def _checked(loaded: Any, promise: _Promise, model_dir: Path) -> Any:
    """The signature that was promised, of a loaded SavedModel."""
    signature = loaded.signatures.get(promise.name)
    if signature is None:
        raise ManifestError(
            f"{model_dir} has no signature {promise.name!r}, which its manifest "
            "promises"
        )
    inputs = {
        name: (spec.dtype.name, tuple(spec.shape))
        for name, spec in signature.structured_input_signature[1].items()
    }
    if inputs != promise.inputs:
        raise ManifestError(
            f"{model_dir} takes {inputs}; its manifest promises {promise.inputs}"
        )
    for name, promised in promise.outputs.items():
        spec = signature.structured_outputs.get(name)
        if spec is None or spec.dtype.name != "float32" or not _fits(spec, promised):
            found = None if spec is None else (spec.dtype.name, tuple(spec.shape))
            raise ManifestError(
                f"{model_dir} gives {name} as {found}; its manifest promises "
                f"{('float32', (None, *promised))}"
            )
    # The signature holds its variables weakly: without the whole it stops working.
    signature.owner = loaded
    return signature


def _promised_outputs(manifest: Manifest) -> dict[str, tuple[int | str, ...]]:
    """The shape of every output without its first dimension, the batch."""
    classes = len(manifest.classes)
    promised: dict[str, tuple[int | str, ...]] = {
        "probabilities": (classes,),
        "logits": (classes,),
        "embedding": ("n",),
    }
    optional = {"outlier_score": manifest.outlier, "spread": manifest.spread}
    return promised | {name: () for name, has in optional.items() if has is not None}


def _fits(spec: Any, promised: tuple[int | str, ...]) -> bool:
    """Whether a shape is the promised one, in which `n` stands for any known size."""
    if spec.shape.rank != 1 + len(promised):
        return False
    batch, *sizes = spec.shape
    return batch is None and all(
        size is not None and wanted in (size, "n")
        for size, wanted in zip(sizes, promised, strict=True)
    )
