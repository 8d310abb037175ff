"""The recipe that Beam's documentation leads to, written with care.

    python -m benchmarks.peers.documented_recipe ARCHIVE OUTPUT MODEL.keras
        [--direct_running_mode in_memory|multi_threading|multi_processing]

MatchFiles, Reshuffle, ReadMatches, pydicom, RunInference with TFModelHandlerNumpy,
WriteToParquet; on the in-process FnApiRunner, so that no download stalls it, with a
worker a core where the mode has workers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io import fileio
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    PredictionResult,
    RunInference,
)
from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy
from apache_beam.options.pipeline_options import PipelineOptions
from numpy.typing import NDArray

from benchmarks.peers import decoding

SCHEMA = pa.schema([("path", pa.string()), ("score", pa.float32())])


def decode(file: fileio.ReadableFile) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The path and the model input of a radiograph of the chest."""
    data = file.read()
    if decoding.is_chest(data):
        yield file.metadata.path, decoding.model_input(data)


def row(prediction: tuple[str, PredictionResult]) -> dict[str, object]:
    """The output row of a keyed prediction."""
    path, result = prediction
    return {"path": path, "score": float(np.asarray(result.inference)[1])}


def main(archive: str, output: str, model: str, *flags: str) -> None:
    """Score every file of `archive`."""
    workers = f"--direct_num_workers={os.cpu_count()}"
    options = PipelineOptions(["--runner=FnApiRunner", workers, *flags])
    handler = KeyedModelHandler(TFModelHandlerNumpy(model))
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | fileio.MatchFiles(f"{archive}/*")
            # Otherwise one worker gets all that the pattern matched.
            | beam.Reshuffle()
            | fileio.ReadMatches()
            | beam.FlatMap(decode)
            | RunInference(handler)
            | beam.Map(row)
            | beam.io.WriteToParquet(f"{output}/scores", SCHEMA)
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
