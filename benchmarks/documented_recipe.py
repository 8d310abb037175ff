"""The recipe that Beam's documentation leads to, written with care.

    python benchmarks/documented_recipe.py ARCHIVE OUTPUT MODEL.keras

MatchFiles, ReadMatches, pydicom's `pixel_array` with the plug-ins that pip offers,
RunInference with TFModelHandlerNumpy, WriteToParquet; on the in-process FnApiRunner, so
that no download stalls it.
"""

from __future__ import annotations

import io
import sys

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pydicom
from apache_beam.io import fileio
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_voi_lut

SIZE = 224
SCHEMA = pa.schema([("path", pa.string()), ("score", pa.float32())])


def decode(file: fileio.ReadableFile) -> tuple[str, NDArray[np.float32]]:
    """The path and the model input, float32 (224, 224, 1), 0–255."""
    data = file.read()
    if file.metadata.path.endswith(".png"):
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    else:
        dataset = pydicom.dcmread(io.BytesIO(data))
        shown = apply_voi_lut(dataset.pixel_array, dataset)
        shown = (shown - shown.min()) / (shown.max() - shown.min())
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            shown = 1 - shown
        pixels = (shown * 255).astype(np.uint8)
    resized = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return file.metadata.path, np.asarray(resized, np.float32)[..., np.newaxis]


def row(prediction: tuple[str, object]) -> dict[str, object]:
    """The output row of a keyed prediction."""
    path, result = prediction
    logits = np.asarray(result.inference)
    probability = np.exp(logits - logits.max())
    return {"path": path, "score": float(probability[1] / probability.sum())}


def main(archive: str, output: str, model: str) -> None:
    """Score every file of `archive`."""
    handler = KeyedModelHandler(TFModelHandlerNumpy(model))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | fileio.MatchFiles(f"{archive}/*")
            | fileio.ReadMatches()
            | beam.Map(decode)
            | RunInference(handler)
            | beam.Map(row)
            | beam.io.WriteToParquet(f"{output}/scores", SCHEMA)
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
