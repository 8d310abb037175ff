"""Ray Data's batch inference.

    python -m benchmarks.peers.ray_data ARCHIVE OUTPUT MODEL.keras

Paths, a map that decodes, batches for an actor that holds the model, Parquet: as Ray's
guide to offline batch inference has it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from numpy.typing import NDArray

from benchmarks.peers import decoding

BATCH = 32


def decode(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The path and the model input of a radiograph of the chest."""
    data = Path(row["path"]).read_bytes()
    if decoding.is_chest(data):
        yield {"path": row["path"], "image": decoding.model_input(data)}


class Network:
    """The model, loaded once in the actor's process."""

    def __init__(self, model: str) -> None:
        import keras

        self._network = keras.models.load_model(model, compile=False)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        probabilities = self._network.predict_on_batch(batch["image"])
        return {"path": batch["path"], "score": probabilities[:, 1]}


def main(archive: str, output: str, model: str) -> None:
    """Score every radiograph of the chest in `archive`."""
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False)
    rows = [{"path": str(path)} for path in sorted(Path(archive).iterdir())]
    (
        ray.data.from_items(rows)
        .flat_map(decode)
        .map_batches(
            Network,
            fn_constructor_args=[model],
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(size=1),
            # It waits nearly always: a core kept for it would be lost to decoding.
            num_cpus=0,
        )
        .write_parquet(output)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
