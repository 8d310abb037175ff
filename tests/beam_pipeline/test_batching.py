from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from beam_pipeline import batching
from beam_pipeline.saved_model import OutOfMemory

SHAPE = (8, 8, 1)


class Gpu:
    """Takes some time for each call, and some for each image."""

    def __init__(self, call: float, image: float, memory: int = 1000) -> None:
        self.now = 0.0
        self.tried: set[int] = set()
        self._call, self._image, self._memory = call, image, memory

    def __call__(self, images: NDArray[np.uint8]) -> None:
        assert not images.any()
        self.tried.add(len(images))
        if len(images) > self._memory:
            raise OutOfMemory("too large")
        self.now += self._call + self._image * len(images)


def rates(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    monkeypatch.setattr(batching.time, "perf_counter", lambda: gpu.now)
    return batching.rates(gpu, SHAPE)


@pytest.mark.parametrize(
    ("call", "image", "best"),
    [
        # Launching costs nothing, a little, or all there is.
        (0.0, 1.0, 16),
        (4.0, 1.0, 64),
        (1000.0, 1.0, 128),
    ],
)
def test_the_smallest_batch_that_is_as_fast_as_any_is_taken(
    monkeypatch: pytest.MonkeyPatch, call: float, image: float, best: int
) -> None:
    found = rates(Gpu(call, image), monkeypatch)
    assert found == {n: pytest.approx(n / (call + image * n)) for n in found}
    assert list(found) == [16, 32, 64, 128]
    assert batching.smallest_fast(found) == best


def test_what_does_not_fit_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(1000, 1, memory=40)
    assert batching.smallest_fast(rates(gpu, monkeypatch)) == 32
    # Nor is what is larger tried.
    assert gpu.tried == {16, 32, 64}
    assert batching.smallest_fast(rates(Gpu(1, 1, memory=4), monkeypatch)) == 1


@pytest.mark.parametrize(
    ("side", "size", "batches"),
    [(224, 64, 4), (512, 64, 1), (512, 16, 4), (4096, 1, 1)],
)
def test_a_call_brings_several_batches_within_its_bytes(
    side: int, size: int, batches: int
) -> None:
    device = batching.of_gpu("L4", time.sleep, (side, side, 1), size)
    assert (device.name, device.batch_size) == ("L4", size)
    assert device.batches_a_call == batches
    assert size * batches * side * side <= batching.CALL_BYTES


def test_of_large_inputs_no_batch_is_tried_that_is_more_than_a_call() -> None:
    tried = []
    found = batching.rates(lambda images: tried.append(len(images)), (1024, 512, 1))
    assert set(tried) == set(found) == {16, 32}
