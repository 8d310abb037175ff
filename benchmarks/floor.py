"""The floor: fetch, digest, decode, prepare, infer, and nothing else.

    python -m benchmarks.floor ARCHIVE MODEL_DIR

A process a core, each a plain loop over its share of the archive, with a model of its
own that runs on its core alone: no core waits for another, and no image goes from one
process to another. (To decode in a pool, and then to run one model on all cores, took
as long or longer.) No header rules, no windows, no rows, no files written:
nobody who reads every file can be faster without a faster decoder. Prints the number
of radiographs and the seconds of the loops, without start-up, as JSON.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, repeat
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pydicom
from blake3 import blake3
from numpy.typing import NDArray
from PIL import Image

from beam_pipeline import images, saved_model
from beam_pipeline.images import codecs, reduced
from beam_pipeline.images.codecs import Layout
from beam_pipeline.images.prepare import halvings
from beam_pipeline.manifest import Preparation
from beam_pipeline.saved_model import SavedModel

BATCH = 32
_PNG = b"\x89PNG"
# Seconds that the other processes may take to start.
_PATIENCE = 300
_barrier: Barrier


@dataclass
class Spent:
    """What a loop did, from when to when, and the seconds of each part."""

    started: float
    ended: float = 0.0
    studies: int = 0
    reading: float = 0.0
    decoding: float = 0.0
    inferring: float = 0.0


def model_input(data: bytes, preparation: Preparation) -> NDArray[np.uint8] | None:
    """The model input of a file, by the least work; None if it is none of a chest."""
    if data.startswith(_PNG):
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        return images.prepare(pixels, preparation)
    dataset = pydicom.dcmread(io.BytesIO(data))
    if dataset.get("BodyPartExamined") != "CHEST":
        return None
    reduction, pixel_data, how = None, dataset.PixelData, layout(dataset)
    wanted = halvings((how.rows, how.columns), preparation)
    if found := reduced.decode(pixel_data, how, wanted):
        stored, reduction = found.values, found.reduction
    else:
        stored = codecs.decode(pixel_data, how)
    pixels = (stored >> (dataset.BitsStored - 8)).astype(np.uint8)
    return images.prepare(pixels, preparation, reduction=reduction)


def layout(dataset: pydicom.Dataset) -> Layout:
    """How the pixels of a radiograph are laid out."""
    return Layout(
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        rows=dataset.Rows,
        columns=dataset.Columns,
        samples_per_pixel=1,
        bits_allocated=dataset.BitsAllocated,
        bits_stored=dataset.BitsStored,
        planar_configuration=0,
    )


def loop(paths: Sequence[Path], model: SavedModel) -> Spent:
    """Score the files."""
    preparation = model.manifest.preparation
    batch = np.zeros((BATCH, preparation.height, preparation.width, 1), np.uint8)
    spent, waiting = Spent(time.monotonic()), 0
    for path in paths:
        started = time.monotonic()
        data = path.read_bytes()
        blake3(data).digest()
        read = time.monotonic()
        image = model_input(data, preparation)
        spent.reading += read - started
        spent.decoding += time.monotonic() - read
        if image is None:
            continue
        batch[waiting] = image
        waiting += 1
        if waiting == BATCH:
            _infer(model, batch, spent)
            waiting = 0
        spent.studies += 1
    if waiting:
        _infer(model, batch, spent)
    spent.ended = time.monotonic()
    return spent


def _infer(model: SavedModel, batch: NDArray[np.uint8], spent: Spent) -> None:
    started = time.monotonic()
    model.infer(batch)
    spent.inferring += time.monotonic() - started


def prepare(barrier: Barrier) -> None:
    """Give a process one core's threads, and the barrier before its loop."""
    global _barrier
    _barrier = barrier
    threading = saved_model.tensorflow().config.threading
    threading.set_intra_op_parallelism_threads(1)
    threading.set_inter_op_parallelism_threads(1)


def work(paths: Sequence[Path], model_dir: Path) -> Spent:
    """Score the files, once all processes are ready."""
    model = saved_model.load(model_dir)
    # The first batch and the first file of each encoding take longer.
    loop(paths[:4], model)
    _barrier.wait(_PATIENCE)
    return loop(paths, model)


def main(archive: Path, model_dir: Path) -> None:
    """Print what was done and the seconds that it took."""
    paths = sorted(archive.iterdir())
    cores = len(os.sched_getaffinity(0))
    context = get_context("spawn")
    # Each has all encodings alike: in the archive they take turns.
    ends = [len(paths) * core // cores for core in range(cores + 1)]
    shares = [paths[start:end] for start, end in pairwise(ends)]
    barrier = context.Barrier(cores)
    with ProcessPoolExecutor(cores, context, prepare, (barrier,)) as executor:
        spent = list(executor.map(work, shares, repeat(model_dir)))
    seconds = max(s.ended for s in spent) - min(s.started for s in spent)
    parts = ("studies", "reading", "decoding", "inferring")
    sums = {part: sum(getattr(each, part) for each in spent) for part in parts}
    print(json.dumps({"seconds": seconds, **sums}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
