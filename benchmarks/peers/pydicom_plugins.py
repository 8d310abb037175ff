"""Decoding alone: pydicom with each of its plug-ins, and this project.

    python -m benchmarks.peers.pydicom_plugins ARCHIVE

From the bytes of a file to its pixels. Those of this project are the upright 8-bit
picture, windowed, whereas pydicom's are the stored values and nothing else, which the
decoder of this project gives too. All take turns on each DICOM file of ARCHIVE, twice;
the second time counts. Prints a line of JSON: the median of the milliseconds a file, by
encoding and decoder.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array

from beam_pipeline import images
from beam_pipeline.images import codecs
from benchmarks import floor

OURS = "this project"
OUR_DECODER = "its decoder"
NATIVE = "pydicom"


def ours(data: bytes) -> None:
    """The upright picture of a file."""
    images.decode(data, images.read_header(io.BytesIO(data)))


def our_decoder(data: bytes) -> None:
    """The stored values of a file, by the decoder of this project."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    codecs.decode(dataset.PixelData, floor.layout(dataset))


def theirs(plugin: str, data: bytes) -> None:
    """The stored values of a file, by one plug-in."""
    pixel_array(pydicom.dcmread(io.BytesIO(data)), decoding_plugin=plugin)


def decoders(syntax: pydicom.uid.UID) -> dict[str, Callable[[bytes], None]]:
    """Who can decode it, by name."""
    found: dict[str, Callable[[bytes], None]] = {OURS: ours, OUR_DECODER: our_decoder}
    if not syntax.is_encapsulated:
        return {**found, NATIVE: partial(theirs, "")}
    plugins = get_decoder(syntax).available_plugins
    return {**found, **{name: partial(theirs, name) for name in plugins}}


def main(archive: Path) -> None:
    """Print the table."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(archive.glob("*.dcm")):
        data = path.read_bytes()
        syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta[
            "TransferSyntaxUID"
        ]
        for name, decode in decoders(syntax.value).items():
            taken = milliseconds(decode, data)
            if taken is not None:
                found[syntax.value.name][name].append(taken)
    medians = {
        encoding: {name: statistics.median(taken) for name, taken in each.items()}
        for encoding, each in found.items()
    }
    print(json.dumps(medians))


def milliseconds(decode: Callable[[bytes], None], data: bytes) -> float | None:
    """Of the second call; None where the decoder refuses the file, which is told."""
    try:
        decode(data)
    # Each plug-in has exceptions of its own.
    except Exception as error:
        print(f"{decode}: {type(error).__name__}: {error}", file=sys.stderr)
        return None
    started = time.perf_counter()
    decode(data)
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
