"""The model handler of RunInference: fixed batches, and what to do when one fails."""

from __future__ import annotations

import logging
import math
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, pairwise
from typing import Any, NoReturn

import numpy as np
from apache_beam.ml.inference.base import ModelHandler
from apache_beam.utils.shared import Shared
from numpy.typing import NDArray

from beam_pipeline import batching, counts, saved_model, staging
from beam_pipeline import device as devices
from beam_pipeline.device import Device, Stopwatch
from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.manifest import DEFAULT_MODEL, ManifestError
from beam_pipeline.records import Outcome, Ready
from beam_pipeline.saved_model import Inference, OutOfMemory, SavedModel
from beam_pipeline.storage import Settings

_LOGGER = logging.getLogger(__name__)

# Outcomes that are final pass through in the same batches and cost the model nothing.
# Weighed so, a batch closes on its images, or on very many rows without any.
_FULL = 2**25
_FINAL_WEIGHT = 2**10
_STORAGE = Settings()

BUSY = "device_busy_microseconds"
IDLE = "device_idle_microseconds"

Fetch = Callable[[], Inference]
Dispatch = Callable[[NDArray[np.uint8]], Fetch]


class SavedModelHandler(ModelHandler[Ready | Outcome, Outcome, "OnDemand"]):
    """Runs a SavedModel on what is `Ready`, and passes on what is final.

    Args:
        model_dir: the model directory, or the URI of one.
        batch_size: images that the model sees at once; None for what suits the device.
        storage: how the place is reached where the model is.
        digest: of the model that the run began with; None for whichever is there.
        run_id: of the run; None where it has none.
    """

    def __init__(
        self,
        model_dir: str,
        batch_size: int | None = None,
        storage: Settings = _STORAGE,
        digest: str | None = None,
        run_id: str | None = None,
    ) -> None:
        super().__init__()
        # The model in the box is elsewhere on another machine.
        self._model_dir = None if model_dir == str(DEFAULT_MODEL) else model_dir
        self._storage = storage
        self._digest = digest
        self._batch_size = batch_size
        # Two pipelines in one process know each other's device only where they are one.
        self._run_id = run_id or uuid.uuid4().hex
        # Of all copies of this handler in a process.
        self._shared = Shared()

    def load_model(self) -> OnDemand:
        model: OnDemand = self._shared.acquire(lambda: OnDemand(self._load))
        return model

    def expect(self) -> None:
        """Begin to load the model: images are on their way to it."""
        self.load_model().begin()

    def _load(self) -> Loaded:
        where = self._model_dir or DEFAULT_MODEL
        model = saved_model.load(staging.model(where, self._storage))
        if self._digest not in (None, model.digest):
            raise ManifestError(
                f"{where} holds another model than when the run began: "
                f"{model.digest}, expected {self._digest}"
            )
        preparation = model.manifest.preparation
        shape = (preparation.height, preparation.width, 1)
        device = self._device(model, shape)
        # A model that fails on any image ends the run before it costs each its score.
        # What else a first batch costs, the first of each shape may pay: it is no less.
        model.infer(np.zeros((1, *shape), np.uint8))
        stopwatch = devices.begin(self._run_id, device)
        return Loaded(model, Score(device.batch_size), stopwatch)

    def _device(self, model: SavedModel, shape: tuple[int, int, int]) -> Device:
        gpus = saved_model.devices()
        if not gpus:
            return Device("CPU", self._batch_size or batching.USUAL)
        # Without a strategy TensorFlow computes on the first.
        return batching.of_gpu(gpus[0], model.infer, shape, self._batch_size)

    def run_inference(
        self,
        batch: Sequence[Ready | Outcome],
        model: OnDemand,
        inference_args: dict[str, Any] | None = None,
    ) -> list[Outcome]:
        ready = [element for element in batch if isinstance(element, Ready)]
        scored = iter(self._scored(ready, model()) if ready else ())
        return [
            next(scored) if isinstance(element, Ready) else element for element in batch
        ]

    def _scored(self, ready: Sequence[Ready], loaded: Loaded) -> list[Outcome]:
        outcomes = list(loaded.score(ready, loaded.dispatch))
        gone_by = loaded.stopwatch.read()
        counts.count(BUSY, gone_by.busy)
        counts.count(IDLE, gone_by.idle)
        devices.tell(self._run_id, gone_by)
        return outcomes

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {
            "min_batch_size": _FULL,
            "max_batch_size": _FULL,
            "element_size_fn": self._weight,
        }

    def _weight(self, element: Ready | Outcome) -> int:
        """How much of a call an element takes; of images, as many as suit the device.

        What is final costs none of them its place: it lies in what they leave.
        """
        if not isinstance(element, Ready):
            return _FINAL_WEIGHT
        images = self._batch_size or batching.USUAL
        # Which device it is, is known when the first call has loaded the model.
        if device := devices.of(self._run_id):
            images = device.batch_size * device.batches_a_call
        return _FULL // (images + 1) + 1

    def get_num_bytes(self, batch: Sequence[Ready | Outcome]) -> int:
        return sum(e.image.nbytes for e in batch if isinstance(e, Ready))

    def get_metrics_namespace(self) -> str:
        return "beam_pipeline"


@dataclass(frozen=True)
class Loaded:
    """A model, with what follows from the device that it was loaded on."""

    model: SavedModel
    score: Score
    stopwatch: Stopwatch

    def dispatch(self, images: NDArray[np.uint8]) -> Fetch:
        """`SavedModel.dispatch`, with the stopwatch running until it was fetched."""
        self.stopwatch.start()
        try:
            fetch = self.model.dispatch(images)
        except BaseException:
            self.stopwatch.stop()
            raise

        def fetched() -> Inference:
            try:
                return fetch()
            finally:
                self.stopwatch.stop()

        return fetched


class OnDemand:
    """A model that is loaded when it is first expected, once for all threads.

    On a night on which every file is known nobody expects it, and the night is over
    before TensorFlow would be imported.
    """

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._loading: Future[Loaded] | None = None

    def begin(self) -> Future[Loaded]:
        """Load it in a thread of its own, unless that has begun."""
        with self._lock:
            if self._loading is None:
                work = ThreadPoolExecutor(1, "model")
                self._loading = work.submit(self._load)
                work.shutdown(wait=False)
            return self._loading

    def __call__(self) -> Loaded:
        """The model. Raises what loading it raises, which ends the run."""
        loading = self.begin()
        try:
            return loading.result()
        except BaseException:
            with self._lock:
                # A runner that tries again is to find it tried again.
                if self._loading is loading:
                    self._loading = None
            raise


class Score:
    """Scores images in batches of a few shapes, the last one padded.

    A new shape costs a GPU a new plan. What does not fit into the device's memory is
    tried again in the next smaller shape, from then on. What fails otherwise is
    bisected, so that the guilty image alone has no score. A batch is handed to the
    device before the outcome of the one before it is fetched.
    """

    def __init__(self, batch_size: int) -> None:
        self._shapes = shapes(batch_size)

    def __call__(self, ready: Sequence[Ready], dispatch: Dispatch) -> Iterator[Outcome]:
        """The outcome of each, in order: its probabilities, or why there are none."""
        batches = self._handed_over(ready, dispatch)
        for batch, _ in pairwise(chain(batches, [None])):
            if batch is not None:
                yield from self._outcomes(batch, dispatch)

    def _handed_over(
        self, ready: Sequence[Ready], dispatch: Dispatch
    ) -> Iterator[_Batch]:
        while ready:
            shapes = self._shapes
            images = ready[: shapes[-1]]
            ready = ready[len(images) :]
            size = next(size for size in shapes if size >= len(images))
            yield _Batch(images, size, _tried(dispatch, images, size))

    def _outcomes(self, batch: _Batch, dispatch: Dispatch) -> Iterator[Outcome]:
        ready = batch.ready
        try:
            inference = batch.fetch()
        except OutOfMemory as error:
            if self._without(batch.size):
                yield from self(ready, dispatch)
            else:
                yield from (_failed(each, error) for each in ready)
        # TensorFlow's errors have many classes, and the night must go on.
        except Exception as error:
            yield from self._bisected(ready, dispatch, error)
        else:
            yield from (
                _scored(each, inference, index) for index, each in enumerate(ready)
            )

    def _without(self, size: int) -> bool:
        """Give up shapes of `size` or more; whether any are left."""
        smaller = tuple(shape for shape in self._shapes if shape < size)
        # Of several batches that did not fit, the first has seen to it.
        if smaller and smaller != self._shapes:
            self._shapes = smaller
            _LOGGER.warning(
                "The device is out of memory; batches of %d from now on", smaller[-1]
            )
        return bool(smaller)

    def _bisected(
        self, ready: Sequence[Ready], dispatch: Dispatch, error: Exception
    ) -> Iterator[Outcome]:
        if len(ready) == 1:
            yield _failed(ready[0], error)
            return
        middle = len(ready) // 2
        yield from self(ready[:middle], dispatch)
        yield from self(ready[middle:], dispatch)


@dataclass(frozen=True)
class _Batch:
    """Images that the device has, padded to `size`; `fetch` waits for their outcome."""

    ready: Sequence[Ready]
    size: int
    fetch: Fetch


def _tried(dispatch: Dispatch, ready: Sequence[Ready], size: int) -> Fetch:
    """`dispatch` of images padded to `size`; its error comes when they are fetched.

    The batch before this one has its outcome first.
    """
    try:
        batch = np.zeros((size, *ready[0].image.shape), np.uint8)
        np.stack([each.image for each in ready], out=batch[: len(ready)])
        return dispatch(batch)
    except Exception as error:
        return partial(_raise, error)


def _raise(error: Exception) -> NoReturn:
    raise error


def shapes(batch_size: int) -> tuple[int, ...]:
    """The batch shapes that the model sees: `batch_size`, quarters of it, down to 1."""
    sizes = [batch_size]
    while sizes[-1] > 1:
        sizes.append(max(1, sizes[-1] // 4))
    return tuple(reversed(sizes))


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
