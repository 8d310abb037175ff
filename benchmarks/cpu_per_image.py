"""What an image costs in CPU time, and how many bytes it has: the input of costs.py.

    python -m benchmarks.cpu_per_image ../shared/data/chest_xray_full --studies 120 480

The job runs on two archives of radiographs at their original size, in equal parts
uncompressed, JPEG 2000, JPEG-LS, JPEG Lossless, baseline JPEG and PNG, and what it
takes more of on the larger one is what images cost: start-up does not count. CPU time
of the job and of its readers, not time on the clock, so that a busy machine says nearly
the same. The model alone is then timed on batches of 32; the rest is reading, decoding,
rules and rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from beam_pipeline import saved_model
from beam_pipeline.manifest import DEFAULT_MODEL
from benchmarks import archive
from benchmarks.archive import Mixture
from benchmarks.encodings import MIX

BATCH = 32
BATCHES = 20
MIXTURE = Mixture(encodings=(*MIX, "jpeg_baseline", "png"), size=None, distinct=120)


def main() -> None:
    """Print milliseconds and megabytes per image as JSON."""
    arguments = _parser().parse_args()
    small, large = sorted(arguments.studies)
    with tempfile.TemporaryDirectory() as folder:
        spent, sizes = {}, {}
        for studies in (small, large):
            files = Path(folder) / str(studies)
            archive.build(arguments.data, files, studies, MIXTURE)
            sizes[studies] = sum(path.stat().st_size for path in files.iterdir())
            spent[studies] = job(files, Path(folder) / f"out-{studies}")
    more = large - small
    whole = (spent[large] - spent[small]) / more
    model = inference()
    found = {
        "job_ms": 1000 * whole,
        "model_ms": 1000 * model,
        "read_ms": 1000 * (whole - model),
        "megabytes": (sizes[large] - sizes[small]) / more / 1e6,
    }
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


def job(files: Path, output: Path) -> float:
    """CPU seconds of the job and all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    flags = ["--input", files, "--output", output, "--allow_unblessed"]
    subprocess.run(
        [sys.executable, "-m", "beam_pipeline", "score", *flags],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def inference() -> float:
    """CPU seconds an image in the model, in full batches."""
    model = saved_model.load(DEFAULT_MODEL)
    preparation = model.manifest.preparation
    batch = np.zeros((BATCH, preparation.height, preparation.width, 1), np.uint8)
    model.infer(batch)
    started = time.process_time()
    for _ in range(BATCHES):
        model.infer(batch)
    return (time.process_time() - started) / (BATCH * BATCHES)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of .jpeg radiographs")
    parser.add_argument("--studies", type=int, nargs=2, default=(120, 480))
    return parser


if __name__ == "__main__":
    main()
