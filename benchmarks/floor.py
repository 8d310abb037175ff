"""The floor: the decoding and the inference that nobody can do without, and no more.

    python benchmarks/floor.py ARCHIVE MODEL_DIR

The files are decoded at full size by the fastest decoder of each encoding in a plain
process pool, a process a core, and resized; then the model runs on batches of 32. The
two times are added, because both use all cores. No header rules, no windows, no rows,
no files written: nobody can be faster without decoding less.
"""

from __future__ import annotations

import io
import json
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image

from beam_pipeline import images, saved_model
from beam_pipeline.images import codecs
from beam_pipeline.images.codecs import Layout
from beam_pipeline.manifest import Preparation

BATCH = 32


def decode(path: Path) -> NDArray[np.uint8]:
    """The model input of one file, with the least work that gives one."""
    data = path.read_bytes()
    if path.suffix == ".png":
        pixels = np.asarray(Image.open(io.BytesIO(data)))
    else:
        dataset = pydicom.dcmread(io.BytesIO(data))
        layout = Layout(
            transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
            rows=dataset.Rows,
            columns=dataset.Columns,
            samples_per_pixel=1,
            bits_allocated=dataset.BitsAllocated,
            bits_stored=dataset.BitsStored,
            planar_configuration=0,
        )
        stored = codecs.decode(dataset.PixelData, layout)
        pixels = (stored >> (dataset.BitsStored - 8)).astype(np.uint8)
    return images.prepare(pixels, Preparation(height=224, width=224))


def main(archive: Path, model_dir: Path) -> None:
    """Print the seconds of both halves, without start-up, as JSON."""
    paths = sorted(archive.iterdir())
    with get_context("spawn").Pool() as pool:
        pool.map(decode, paths[:8])
        started = time.perf_counter()
        inputs = np.stack(pool.map(decode, paths, chunksize=4))
        decoded = time.perf_counter() - started
    model = saved_model.load(model_dir)
    model.infer(np.zeros((BATCH, *inputs.shape[1:]), np.uint8))
    started = time.perf_counter()
    for start in range(0, len(inputs) - BATCH + 1, BATCH):
        model.infer(inputs[start : start + BATCH])
    batches = len(inputs) // BATCH
    inferred = (time.perf_counter() - started) / (batches * BATCH) * len(inputs)
    print(json.dumps({"decode": decoded, "infer": inferred}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
