"""python -m trainer predict: label and confidence of single files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beam_pipeline.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `predict`."""
    parser.add_argument(
        "file", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG or DICOM"
    )
    add_model(parser)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags that say what scores and what decides."""
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        metavar="MODEL_DIR",
        help="what scores (default: the model in the box)",
    )
    point = parser.add_mutually_exclusive_group()
    point.add_argument(
        "--operating_point",
        metavar="NAME",
        help="which of the model's thresholds decides (default: default)",
    )
    point.add_argument("--threshold", type=float, metavar="X", help="your own instead")


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each file; the exit code: 1 if one could not be scored."""
    from beam_pipeline import manifest as manifests
    from beam_pipeline.errors import NotScored
    from trainer.explanation import predict

    model_dir = arguments.model or manifests.DEFAULT_MODEL
    reader = predict.reader(model_dir, arguments.operating_point, arguments.threshold)
    warn_unblessed(reader.model.manifest)
    failed = False
    for path in arguments.file:
        try:
            seen = reader.read(path)
            outcome = reader.answer(path, seen)
        except NotScored as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
            continue
        for warning in predict.warnings(seen, outcome):
            print(f"{path}: {warning}", file=sys.stderr)
        name = f"{path}: " if len(arguments.file) > 1 else ""
        print(name + predict.line(outcome, reader.model.manifest.classes))
    return int(failed)


def warn_unblessed(manifest: Manifest) -> None:
    """Say on standard error that the job would refuse this model, if it would."""
    if manifest.objection is not None:
        print(f"{manifest.name} is not blessed: {manifest.objection}", file=sys.stderr)
