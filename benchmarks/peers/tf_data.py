"""A plain script on tf.data and `model.predict`.

    python -m benchmarks.peers.tf_data ARCHIVE OUTPUT MODEL.keras

As the guide to tf.data's performance has it: a parallel map that tunes itself, batches,
prefetching. pydicom is Python, so the map calls it through `tf.numpy_function`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.peers import decoding

BATCH = 32


def decode(path: bytes) -> NDArray[np.float32]:
    """The model input of a file."""
    return decoding.model_input(Path(path.decode()).read_bytes())


def decoded(path: tf.Tensor) -> tf.Tensor:
    """The same in TensorFlow's graph."""
    image = tf.numpy_function(decode, [path], tf.float32)
    return tf.ensure_shape(image, (decoding.SIZE, decoding.SIZE, 1))


def main(archive: Path, output: Path, model: Path) -> None:
    """Score every radiograph of the chest in `archive`."""
    files = sorted(archive.iterdir())
    paths = [str(path) for path in files if decoding.is_chest(path.read_bytes())]
    images = (
        tf.data.Dataset.from_tensor_slices(paths)
        .map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH)
        .prefetch(tf.data.AUTOTUNE)
    )
    network = keras.models.load_model(model, compile=False)
    probabilities = network.predict(images, verbose=0)
    output.mkdir(parents=True)
    table = pa.table({"path": paths, "score": probabilities[:, 1]})
    pq.write_table(table, output / "scores.parquet")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
