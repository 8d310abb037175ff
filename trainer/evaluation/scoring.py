"""Labelled files → predictions, by an exported model, read as the job reads them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.images.eligibility import Rules
from beam_pipeline.manifest import Manifest
from beam_pipeline.read import Reading
from beam_pipeline.records import Outcome, Ready, Source
from beam_pipeline.saved_model import Inference, SavedModel
from trainer.data.dataset import DatasetError, Examples
from trainer.evaluation.predictions import Predictions

_BATCH = 32
_OCCLUDED = 0.7

Pixels = NDArray[np.uint8]


def occlude_center(images: Pixels) -> Pixels:
    """Paint the middle 70 % of rows and columns black, where the lungs are.

    A model of the lungs knows nothing then. One that still does has learned from the
    border: Maguolo & Nanni 2021, Information Fusion 76:1.

    Args:
        images: uint8, (images, height, width, 1).
    """
    occluded = images.copy()
    top, left = (round(side * (1 - _OCCLUDED) / 2) for side in images.shape[1:3])
    bottom, right = images.shape[1] - top, images.shape[2] - left
    occluded[:, top:bottom, left:right] = 0
    return occluded


CONTROLS: dict[str, Callable[[Pixels], Pixels]] = {"occlude_center": occlude_center}


@dataclass(frozen=True)
class Scores:
    """Predictions on the images that could be read.

    Attributes:
        predictions: on them as they are.
        controls: on them after something was done to them, by its name.
        left_out: how many files could not be read, by reason.
    """

    predictions: Predictions
    controls: Mapping[str, Predictions]
    left_out: Mapping[str, int]


def score(
    model: SavedModel, examples: Examples, controls: tuple[str, ...] = ()
) -> Scores:
    """The model's logits of every file that can be decoded, whatever its rules say.

    What a DICOM header says of age, sex and view fills the columns that the data set
    does not have.

    Raises:
        DatasetError: classes that the model has not, or no file that can be read.
    """
    manifest = model.manifest
    labels = _labels(examples, manifest)
    said: dict[str, list[Inference]] = {name: [] for name in ("", *controls)}
    read: list[tuple[int, Outcome]] = []
    left_out: Counter[str] = Counter()
    for batch in _batches(examples, manifest, left_out):
        pixels = np.stack([ready.image for _, ready in batch])
        read += [(row, ready.outcome) for row, ready in batch]
        for name, parts in said.items():
            seen = CONTROLS[name](pixels) if name else pixels
            parts.append(model.infer(seen))
    if not read:
        raise DatasetError(f"none of {len(examples)} files can be read: {left_out}")
    rows = np.array([row for row, _ in read])
    predictions = Predictions(
        task=manifest.task,
        classes=manifest.classes,
        findings=manifest.findings,
        names=np.array(examples.names())[rows],
        labels=labels[rows],
        **_answers(said.pop("")),
        temperature=manifest.calibration.temperature,
        patients=examples.patients[rows],
        parts=examples.given_parts[rows],
        columns=_columns(examples, read),
    )
    return Scores(
        predictions=predictions,
        controls={
            name: replace(predictions, **_answers(parts))
            for name, parts in said.items()
        },
        left_out=dict(left_out),
    )


def _answers(batches: list[Inference]) -> dict[str, Any]:
    """The columns of predictions that the model gives; `spread` None where it has none.

    A model has a spread of every batch or of none.
    """
    spreads = [each.spread for each in batches if each.spread is not None]
    logits = np.concatenate([each.logits for each in batches]).astype(np.float64)
    spread = np.concatenate(spreads).astype(np.float64) if spreads else None
    return {"logits": logits, "spread": spread}


def _labels(examples: Examples, manifest: Manifest) -> NDArray[np.bool_]:
    unknown = [name for name in examples.classes if name not in manifest.classes]
    if unknown:
        raise DatasetError(
            f"the data has the classes {', '.join(unknown)}, and the model "
            f"{manifest.name} knows {', '.join(manifest.classes)} alone"
        )
    if (examples.task == "multilabel") != (manifest.task == "multilabel"):
        column = "labels" if manifest.task == "multilabel" else "label"
        raise DatasetError(
            f"the model {manifest.name} is {manifest.task}, and the data is not: give "
            f"a table with the column {column}"
        )
    labels = np.zeros((len(examples), len(manifest.classes)), np.bool_)
    labels[:, [manifest.classes.index(name) for name in examples.classes]] = (
        examples.labels
    )
    return labels


def _batches(
    examples: Examples, manifest: Manifest, left_out: Counter[str]
) -> Iterator[list[tuple[int, Ready]]]:
    """Files that can be read, with their row; the others are counted."""
    reading = Reading(preparation=manifest.preparation, rules=Rules(()))

    def read(row: int) -> tuple[int, Ready | Outcome]:
        *_, last = reading(Source(os.fspath(examples.paths[row])))
        return row, last

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # A batch at a time: otherwise all images would wait in memory for the model.
        for start in range(0, len(examples), _BATCH):
            rows = range(start, min(start + _BATCH, len(examples)))
            batch = []
            for row, found in pool.map(read, rows):
                if isinstance(found, Ready):
                    batch.append((row, found))
                else:
                    left_out[str(found.reason)] += 1
            if batch:
                yield batch


def _columns(
    examples: Examples, read: list[tuple[int, Outcome]]
) -> dict[str, NDArray[np.str_]]:
    rows = [row for row, _ in read]
    headers = {
        "age": [_text(outcome.patient_age_years) for _, outcome in read],
        "sex": [_text(outcome.patient_sex) for _, outcome in read],
        "view": [_text(outcome.view_position) for _, outcome in read],
    }
    stated = {name: np.array(v) for name, v in headers.items() if any(v)}
    given = {name: values[rows] for name, values in examples.columns.items()}
    return {**stated, **given}


def _text(value: object) -> str:
    return "" if value is None else str(value)
