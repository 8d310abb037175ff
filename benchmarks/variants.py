"""One model, called as the job calls it, and in ways that may be faster on a GPU.

The job takes none of them: on a CPU XLA lost by up to 13 times, and on a GPU a score
must not depend on what the machine found fastest that night. `gpu.py` says what they
would bring, and how far scores would move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beam_pipeline import saved_model
from beam_pipeline.saved_model import Inference, SavedModel

Infer = Callable[[NDArray[np.uint8]], Inference]


class Memory:
    """The most that the GPU held since it was last asked; nothing of a CPU."""

    def __init__(self, *, is_gpu: bool) -> None:
        self._of = saved_model.tensorflow().config.experimental if is_gpu else None

    def reset(self) -> None:
        """Forget the peak."""
        if self._of is not None:
            self._of.reset_memory_stats("GPU:0")

    def peak(self) -> str:
        """In MB, as text."""
        if self._of is None:
            return "–"
        return f"{self._of.get_memory_info('GPU:0')['peak'] / 1e6:.0f} MB"


def of(where: Path, model: SavedModel) -> Iterator[tuple[str, Infer]]:
    """The ways, by name; each holds until the next is asked for."""
    yield "as the job calls it", model.infer
    yield "XLA", _compiled(model)
    config = saved_model.tensorflow().config
    config.experimental.enable_tensor_float_32_execution(False)
    yield "float32, without TensorFloat-32", model.infer
    config.experimental.enable_tensor_float_32_execution(True)
    config.optimizer.set_experimental_options({"auto_mixed_precision": True})
    # Graphs are rewritten when they are first called: one that was is as it was.
    yield "mixed precision", saved_model.load(where).infer
    config.optimizer.set_experimental_options({"auto_mixed_precision": False})


def logits(
    infer: Infer, inputs: NDArray[np.uint8], batch_size: int
) -> NDArray[np.float32]:
    """What `infer` says of all inputs, the last batch padded."""
    found = []
    for start in range(0, len(inputs), batch_size):
        chunk = inputs[start : start + batch_size]
        batch = np.zeros((batch_size, *inputs.shape[1:]), np.uint8)
        batch[: len(chunk)] = chunk
        found.append(infer(batch).logits[: len(chunk)])
    return np.concatenate(found)


def _compiled(model: SavedModel) -> Infer:
    tf = saved_model.tensorflow()

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def serve(image: Any) -> Any:
        return model.serve(image=image)

    return SavedModel(model.manifest, model.digest, serve).infer
