"""Examples → model inputs, decoded once and kept; batches of them.

Images are read by `beam_pipeline.images`: a model learns from what it will be served.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from blake3 import blake3
from numpy.typing import NDArray

from beam_pipeline import images
from beam_pipeline.errors import NotScored
from beam_pipeline.manifest import Preparation
from trainer.data.dataset import DatasetError, Examples

Images = NDArray[np.uint8]
_SHOWN = 5
_CHUNK = 64


def read(examples: Examples, preparation: Preparation, cache: Path) -> Images:
    """Every image as model input: uint8, (images, height, width, 1), read-only.

    The array lies in a file of `cache` and is mapped into memory, so that a second run
    on the same files with the same preparation decodes nothing.

    Raises:
        DatasetError: files that cannot be read; all of them are counted.
    """
    kept = cache / f"{_key(examples, preparation)}.npy"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.{os.getpid()}.partial")
        try:
            _decode(examples, preparation, partial)
            partial.rename(kept)
        finally:
            # As large as all images together: not to be left by what failed.
            partial.unlink(missing_ok=True)
    pixels: Images = np.load(kept, mmap_mode="r")
    return pixels


def _key(examples: Examples, preparation: Preparation) -> str:
    """A name for these files, as they are now, prepared so."""
    total = blake3(preparation.name.encode())
    for path in examples.paths:
        status = path.stat()
        total.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return str(total.hexdigest()[:32])


def _decode(examples: Examples, preparation: Preparation, partial: Path) -> None:
    shape = (len(examples), preparation.height, preparation.width, 1)
    pixels = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
    unread = []
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda path: read_one(path, preparation), examples.paths)
        for index, result in enumerate(results):
            if isinstance(result, NotScored):
                unread.append(f"{examples.paths[index]}: {result}")
            else:
                pixels[index] = result
    pixels.flush()
    if unread:
        raise DatasetError(
            f"{len(unread)} files cannot be read; mend or remove them:\n  "
            + "\n  ".join(unread[:_SHOWN])
        )


def read_one(path: Path, preparation: Preparation) -> Images | NotScored:
    """A file as model input, uint8, (height, width, 1), or why it is none."""
    try:
        with path.open("rb") as stream:
            header = images.read_header(stream)
        return images.model_input(path.read_bytes(), header, preparation).image
    except NotScored as error:
        return error


def chunks(images: Images) -> Iterator[Images]:
    """All images in their order, some at a time, as a model can take them."""
    for start in range(0, len(images), _CHUNK):
        yield images[start : start + _CHUNK]


def batches(
    pixels: Images, targets: NDArray[np.float32], rows: NDArray[np.int64], size: int
) -> tf.data.Dataset:
    """(uint8 images, float32 targets) of these rows, in their order, in batches."""

    def gather(chosen: NDArray[np.int64]) -> tuple[Images, NDArray[np.float32]]:
        return pixels[chosen], targets[chosen]

    def load(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Pixels are gathered a batch at a time: a tensor of the whole array would hold
        # it twice.
        image, target = tf.numpy_function(gather, [chosen], (tf.uint8, tf.float32))
        image.set_shape((None, *pixels.shape[1:]))
        target.set_shape((None, *targets.shape[1:]))
        return image, target

    order = tf.data.Dataset.from_tensor_slices(rows)
    return order.batch(size).map(load).prefetch(2)
