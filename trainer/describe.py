"""A scorer and the images of a run → its predictions and its manifest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from beam_pipeline.manifest import (
    Calibration,
    Manifest,
    OperatingPoint,
    Spread,
    TrainingData,
)
from trainer import (
    blessing,
    calibrate,
    evaluate,
    export,
    operating_points,
    outlier,
    recipes,
    split,
)
from trainer.evaluate import Scored
from trainer.operating_points import Chosen, Method
from trainer.predictions import Floats, Predictions
from trainer.run import Data, Run
from trainer.serving import Mirrored, Scorer

_BATCH = 64

Answers = dict[str, NDArray[np.float32]]


def describe(run: Run, data: Data, scorer: Scorer) -> tuple[Manifest, Predictions]:
    """What is known of a scorer: its manifest without files, and its predictions.

    Validation patients choose temperature, thresholds and the quantiles of the outlier
    score; held-out patients give the figures.
    """
    found = answers(scorer, data)
    predicted = predictions_of(data, found)
    manifest = _manifest(run, data, predicted)
    if "outlier_score" in found:
        scores = found["outlier_score"][data.rows("validation")]
        features = (
            f"{run.recipe.backbone}: its middle, once it was trained; training images, "
            "as they are and augmented"
        )
        manifest = replace(
            manifest, outlier=outlier.describe(scores.astype(np.float64), features)
        )
    return replace(
        manifest,
        spread=_spread(run, scorer) if "spread" in found else None,
        explanation=scorer.explanation,
        blessing=blessing.bless(
            run.terms,
            manifest.metrics,
            predicted.part("held_out"),
            data.pixels[data.rows("held_out")],
        ),
    ), predicted


def answers(scorer: Scorer, data: Data) -> Answers:
    """What the scorer says of every image, (images, …) each, without embeddings."""
    image = tf.TensorSpec((None, *data.pixels.shape[1:]), tf.uint8)
    answer = tf.function(scorer, input_signature=[image])
    chunks: list[Answers] = []
    for start in range(0, len(data.pixels), _BATCH):
        given = answer(tf.constant(data.pixels[start : start + _BATCH]))
        chunks.append({k: v.numpy() for k, v in given.items() if k != "embedding"})
    return {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}


def predictions_of(data: Data, found: Answers) -> Predictions:
    """The predictions, calibrated on the validation patients."""
    examples = data.examples
    rows = data.rows("validation")
    spread = found.get("spread")
    return Predictions(
        task=examples.task,
        classes=examples.classes,
        findings=data.findings,
        names=np.array(examples.names()),
        labels=examples.labels,
        logits=found["logits"].astype(np.float64),
        temperature=calibrate.temperature(
            found["logits"][rows], examples.labels[rows], examples.task
        ),
        patients=examples.patients,
        parts=data.parts,
        columns=examples.columns,
        spread=None if spread is None else spread.astype(np.float64),
    )


def _manifest(run: Run, data: Data, predicted: Predictions) -> Manifest:
    tuned, judged = (predicted.part(part) for part in ("validation", "held_out"))
    points = _operating_points(tuned, judged, run.seed)
    return Manifest(
        name=run.card.name or run.output.name,
        version=run.card.version,
        task=data.examples.task,
        classes=data.examples.classes,
        findings=data.findings,
        preparation=run.preparation,
        operating_points=points,
        calibration=Calibration(
            method="temperature",
            temperature=predicted.temperature,
            chosen_on="validation",
        ),
        eligibility=run.card.eligibility,
        training_data=_training_data(run, data),
        recipe=recipes.plain(run.recipe),
        metrics=evaluate.metrics(
            _scored(judged), points["default"].thresholds[0], run.seed
        ),
        intended_use=run.card.intended_use,
        limits=run.card.limits,
        licence=run.card.licence,
        packages=export.package_versions(),
        files={},
    )


def _scored(predicted: Predictions) -> Scored:
    return Scored(predicted.positives, predicted.scores, predicted.patients)


def _operating_points(
    tuned: Predictions, judged: Predictions, seed: int
) -> dict[str, OperatingPoint]:
    points = {}
    for name, method in operating_points.METHODS.items():
        chosen = _chosen(tuned, method, seed)
        thresholds = tuple(each.threshold for each in chosen)
        decided = replace(_scored(judged), scores=_margins(judged, thresholds))
        points[name] = OperatingPoint(
            thresholds=thresholds,
            method=method.description,
            chosen_on="validation",
            sensitivity=evaluate.sensitivity(decided, 0),
            specificity=evaluate.specificity(decided, 0),
            intervals=tuple((each.low, each.high) for each in chosen),
            abstain=chosen[0].abstain if len(chosen) == 1 else None,
        )
    return points


def _chosen(tuned: Predictions, method: Method, seed: int) -> tuple[Chosen, ...]:
    if tuned.task == "multilabel":
        return operating_points.choose_each(
            tuned.labels, tuned.probabilities, tuned.patients, method, seed
        )
    chosen = operating_points.choose(
        tuned.positives, tuned.scores, tuned.patients, method, seed
    )
    return (chosen,)


def _margins(judged: Predictions, thresholds: tuple[float, ...]) -> Floats:
    """How far above its threshold each image's score is: positive from 0 on."""
    if judged.task != "multilabel":
        return judged.scores - thresholds[0]
    rows = [judged.classes.index(finding) for finding in judged.findings]
    above = judged.probabilities - np.array(thresholds)
    return np.asarray(above[:, rows].max(axis=1))


def _spread(run: Run, scorer: Scorer) -> Spread:
    if isinstance(scorer, Mirrored) and run.recipe.members == 1:
        return Spread(method="augmentation", of=2)
    return Spread(method="ensemble", of=run.recipe.members)


def _training_data(run: Run, data: Data) -> TrainingData:
    return TrainingData(
        source=run.card.source,
        images=len(data.examples),
        duplicates_left_out=data.examples.duplicates,
        patient_pattern=run.naming.patient,
        files_without_patient=data.examples.files_without_patient,
        split=split.describe(data.examples, data.parts),
        seed=run.division.seed,
        split_digest=split.digest(data.examples, data.parts),
    )
