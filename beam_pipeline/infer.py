"""The model handler of RunInference: fixed batches, and what to do when one fails."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler
from numpy.typing import NDArray

from beam_pipeline import saved_model, staging
from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.manifest import DEFAULT_MODEL, ManifestError
from beam_pipeline.records import Outcome, Ready
from beam_pipeline.saved_model import Inference, OutOfMemory, SavedModel
from beam_pipeline.storage import Settings

_LOGGER = logging.getLogger(__name__)

# Outcomes that are final pass through in the same batches and cost the model nothing.
# Weighed so, a batch closes on its images, or on very many rows without any.
_READY_WEIGHT = 1024
_FINAL_WEIGHT = 1
_STORAGE = Settings()

Infer = Callable[[NDArray[np.uint8]], Inference]


class SavedModelHandler(ModelHandler[Ready | Outcome, Outcome, "OnDemand"]):
    """Runs a SavedModel on what is `Ready`, and passes on what is final.

    Args:
        model_dir: the model directory, or the URI of one.
        batch_size: images a batch.
        storage: how the place is reached where the model is.
        digest: of the model that the run began with; None for whichever is there.
    """

    def __init__(
        self,
        model_dir: str,
        batch_size: int,
        storage: Settings = _STORAGE,
        digest: str | None = None,
    ) -> None:
        super().__init__()
        # The model in the box is elsewhere on another machine.
        self._model_dir = None if model_dir == str(DEFAULT_MODEL) else model_dir
        self._storage = storage
        self._digest = digest
        self._batch_size = batch_size
        self._score = Score(batch_size)

    def load_model(self) -> OnDemand:
        return OnDemand(self._load)

    def _load(self) -> SavedModel:
        where = self._model_dir or DEFAULT_MODEL
        model = saved_model.load(staging.model(where, self._storage))
        if self._digest not in (None, model.digest):
            raise ManifestError(
                f"{where} holds another model than when the run began: "
                f"{model.digest}, expected {self._digest}"
            )
        preparation = model.manifest.preparation
        for size in shapes(self._batch_size):
            shape = (size, preparation.height, preparation.width, 1)
            model.infer(np.zeros(shape, np.uint8))
        return model

    def run_inference(
        self,
        batch: Sequence[Ready | Outcome],
        model: OnDemand,
        inference_args: dict[str, Any] | None = None,
    ) -> list[Outcome]:
        ready = [element for element in batch if isinstance(element, Ready)]
        scored = self._score(ready, model().infer) if ready else iter(())
        return [
            next(scored) if isinstance(element, Ready) else element for element in batch
        ]

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        weight = self._batch_size * _READY_WEIGHT + (_READY_WEIGHT - _FINAL_WEIGHT)
        return {
            "min_batch_size": weight,
            "max_batch_size": weight,
            "element_size_fn": _weight,
        }

    def get_num_bytes(self, batch: Sequence[Ready | Outcome]) -> int:
        return sum(e.image.nbytes for e in batch if isinstance(e, Ready))

    def get_metrics_namespace(self) -> str:
        return "beam_pipeline"


class OnDemand:
    """A model that is loaded when it is first asked for, once for all threads.

    On a night on which every file is known nobody asks, and the night is over before
    TensorFlow would be imported.
    """

    def __init__(self, load: Callable[[], SavedModel]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._model: SavedModel | None = None

    def __call__(self) -> SavedModel:
        """The model. Raises what loading it raises, which ends the run."""
        with self._lock:
            if self._model is None:
                self._model = self._load()
            return self._model


class Score:
    """Scores images in batches of a few shapes, the last one padded.

    A new shape costs a GPU a new plan. What does not fit into the device's memory is
    tried again in the next smaller shape, from then on. What fails otherwise is
    bisected, so that the guilty image alone has no score.
    """

    def __init__(self, batch_size: int) -> None:
        self._shapes = shapes(batch_size)

    def __call__(self, ready: Sequence[Ready], infer: Infer) -> Iterator[Outcome]:
        """The outcome of each, in order: its probabilities, or why there are none."""
        position = 0
        while position < len(ready):
            chunk = ready[position : position + self._shapes[-1]]
            try:
                inference = infer(self._padded(chunk))
            except OutOfMemory as error:
                if len(self._shapes) == 1:
                    yield from (_failed(each, error) for each in chunk)
                    position += len(chunk)
                else:
                    self._shrink()
                continue
            # TensorFlow's errors have many classes, and the night must go on.
            except Exception as error:
                yield from self._bisected(chunk, infer, error)
            else:
                yield from (
                    _scored(each, inference, index) for index, each in enumerate(chunk)
                )
            position += len(chunk)

    def _padded(self, ready: Sequence[Ready]) -> NDArray[np.uint8]:
        size = next(size for size in self._shapes if size >= len(ready))
        batch = np.zeros((size, *ready[0].image.shape), np.uint8)
        np.stack([each.image for each in ready], out=batch[: len(ready)])
        return batch

    def _shrink(self) -> None:
        self._shapes = self._shapes[:-1]
        _LOGGER.warning(
            "The device is out of memory; batches of %d from now on", self._shapes[-1]
        )

    def _bisected(
        self, ready: Sequence[Ready], infer: Infer, error: Exception
    ) -> Iterator[Outcome]:
        if len(ready) == 1:
            yield _failed(ready[0], error)
            return
        middle = len(ready) // 2
        yield from self(ready[:middle], infer)
        yield from self(ready[middle:], infer)


def shapes(batch_size: int) -> tuple[int, ...]:
    """The batch shapes that the model sees: `batch_size`, quarters of it, down to 1."""
    sizes = [batch_size]
    while sizes[-1] > 1:
        sizes.append(max(1, sizes[-1] // 4))
    return tuple(reversed(sizes))


def _weight(element: Ready | Outcome) -> int:
    return _READY_WEIGHT if isinstance(element, Ready) else _FINAL_WEIGHT


def _scored(ready: Ready, inference: Inference, index: int) -> Outcome:
    probabilities = inference.probabilities[index]
    if not np.isfinite(probabilities).all():
        detail = "the model gave a probability that is not a number"
        return ready.outcome.ended(Unreadable(Failure.NAN_SCORE, detail))
    return replace(
        ready.outcome,
        probabilities=tuple(probabilities.tolist()),
        logits=tuple(inference.logits[index].tolist()),
        spread=_finite(inference.spread, index),
        outlier_score=_finite(inference.outlier_score, index),
    )


def _finite(values: NDArray[np.float32] | None, index: int) -> float | None:
    """What costs no image its score: a number, or None where there is none."""
    if values is None:
        return None
    value = float(values[index])
    return value if math.isfinite(value) else None


def _failed(ready: Ready, error: Exception) -> Outcome:
    _LOGGER.error("The model failed on an image: %s", type(error).__name__)
    detail = f"the model failed on this image ({type(error).__name__})"
    return ready.outcome.ended(Unreadable(Failure.MODEL_ERROR, detail))
