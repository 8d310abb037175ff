"""Where the time of a file goes, by encoding, on one thread.

    python -m benchmarks.archive ../shared/data/chest_xray_full ARCHIVE 96
    python -m benchmarks.budget ARCHIVE

Each file is read as the job reads it, with a clock around each stage; the files take
turns, several times, and the medians are printed as a table in Markdown. What the model
takes is measured on batches of 32, and is the same for all.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from blake3 import blake3
from pydicom import uid

from beam_pipeline import images, saved_model
from beam_pipeline.images import codecs, dicom, grayscale, reduced
from beam_pipeline.manifest import DEFAULT_MODEL, Preparation

BATCH = 32
# Stage → the function that is all of it; `decode` is whichever decodes.
STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "parse": ((dicom, "parse"),),
    "decode": ((codecs, "decode"), (reduced, "decode")),
    "look up": ((grayscale, "looked_up"),),
    "prepare": ((images, "prepare"),),
}
COLUMNS = ("fetch", "digest", "header", *STAGES, "rest", "together")

Seconds = dict[str, float]


def read(path: Path, preparation: Preparation) -> tuple[str, Seconds]:
    """The encoding of a file, and the seconds of each stage."""
    spent: Seconds = defaultdict(float)
    started = time.perf_counter()
    with path.open("rb") as stream:
        with _timed(spent, "header"):
            header = images.read_header(stream)
        with _timed(spent, "fetch"):
            stream.seek(0)
            data = stream.read()
    with _timed(spent, "digest"):
        blake3(data).hexdigest()
    # Within a header's time parsing it is the header's.
    with _clocks(spent):
        images.model_input(data, header, preparation)
    spent["together"] = time.perf_counter() - started
    known = sum(spent[name] for name in COLUMNS[:-2])
    spent["rest"] = spent["together"] - known
    syntax = header.transfer_syntax_uid
    return uid.UID(syntax).name if syntax else header.format, spent


@contextmanager
def _timed(spent: Seconds, stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    spent[stage] += time.perf_counter() - started


@contextmanager
def _clocks(spent: Seconds) -> Iterator[None]:
    """A clock around the functions of each stage."""
    patches = [
        mock.patch.object(module, name, _clocked(getattr(module, name), spent, stage))
        for stage, functions in STAGES.items()
        for module, name in functions
    ]
    for patch in patches:
        patch.start()
    yield
    for patch in patches:
        patch.stop()


def _clocked(
    function: Callable[..., Any], spent: Seconds, stage: str
) -> Callable[..., Any]:
    def clocked(*arguments: Any, **options: Any) -> Any:
        with _timed(spent, stage):
            return function(*arguments, **options)

    return clocked


def inference(model: saved_model.SavedModel) -> float:
    """Seconds an image, in batches, with as many threads as TensorFlow takes."""
    preparation = model.manifest.preparation
    batch = np.zeros((BATCH, preparation.height, preparation.width, 1), np.uint8)
    seconds = []
    for _ in range(12):
        started = time.process_time()
        model.infer(batch)
        seconds.append((time.process_time() - started) / BATCH)
    return statistics.median(seconds[2:])


def main() -> None:
    """Print milliseconds by encoding and stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    arguments = parser.parse_args()
    model = saved_model.load(arguments.model)
    found: dict[str, list[Seconds]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for path in sorted(arguments.archive.iterdir()):
            encoding, spent = read(path, model.manifest.preparation)
            found[encoding].append(spent)
    print(f"| | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for encoding, each in sorted(found.items()):
        medians = [statistics.median(s[name] for s in each) for name in COLUMNS]
        cells = " | ".join(f"{1000 * median:.1f}" for median in medians)
        print(f"| {encoding} | {cells} |")
    print(f"\nthe model: {1000 * inference(model):.1f} ms of processor time an image")


if __name__ == "__main__":
    main()
