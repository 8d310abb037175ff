"""How many images a GPU is given at once, by trying.

On a CPU the size does not matter: from 4 images to 128 at once the processors' time of
an image stays within a few per cent, and so there is nothing to try there. Few take
less memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.device import Device
from beam_pipeline.saved_model import OutOfMemory

# On a CPU, and until the device is known.
USUAL = 16
# What one call of the handler brings, in bytes of model inputs: half of what is read
# ahead, so that reading need not stop while the model works on a call.
CALL_BYTES = 16 * 2**20
# Enough that a GPU computes one batch while the next one is copied to it.
_BATCHES_A_CALL = 4
SIZES = (16, 32, 64, 128)
_WARM_UPS, _TIMED = 2, 3
# What is within this of the best is as fast.
_TOLERANCE = 0.05

Infer = Callable[[NDArray[np.uint8]], object]
Shape = tuple[int, int, int]


def of_gpu(name: str, infer: Infer, shape: Shape, asked: int | None) -> Device:
    """A GPU with the batch size that was asked for, or else the one that tells best.

    Args:
        name: of the GPU.
        infer: the model, on uint8 (images, height, width, 1).
        shape: (height, width, 1) of its input.
        asked: a batch size; None for one that is found by trying.
    """
    size = asked or smallest_fast(rates(infer, shape))
    in_a_call = CALL_BYTES // (size * int(np.prod(shape)))
    return Device(name, size, max(1, min(_BATCHES_A_CALL, in_a_call)))


def rates(infer: Infer, shape: Shape, sizes: Sequence[int] = SIZES) -> dict[int, float]:
    """Images per second by batch size, on zeros; `sizes` in ascending order.

    Those that the device cannot hold are left out, and so are those of which a call
    would bring too many bytes.
    """
    fitting = CALL_BYTES // int(np.prod(shape))
    found: dict[int, float] = {}
    for size in takewhile(lambda size: size <= fitting, sizes):
        try:
            found[size] = size / _seconds(infer, np.zeros((size, *shape), np.uint8))
        # A GPU's libraries have many ways to say that a batch is too large. What fails
        # for another reason fails in the first batch, too, and that one says so.
        except Exception as error:
            if not (found or isinstance(error, OutOfMemory)):
                raise
            break
    return found


def smallest_fast(rates: dict[int, float]) -> int:
    """The smallest size that is as fast as any; the least of all where none fitted."""
    best = max(rates.values(), default=0.0)
    fast = [size for size, rate in rates.items() if rate >= best * (1 - _TOLERANCE)]
    return min(fast, default=1)


def _seconds(infer: Infer, images: NDArray[np.uint8]) -> float:
    for _ in range(_WARM_UPS):
        infer(images)
    taken = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        infer(images)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
