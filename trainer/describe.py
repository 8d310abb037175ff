"""A scorer and the images of a run → its predictions and its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from beam_pipeline.manifest import (
    Calibration,
    Manifest,
    OperatingPoint,
    TrainingData,
)
from trainer import blessing, export, outlier
from trainer.data import pixels, split
from trainer.evaluation import calibrate, evaluate, operating_points, out_of_fold
from trainer.evaluation.evaluate import Scored
from trainer.evaluation.operating_points import Chosen, Method
from trainer.evaluation.predictions import Floats, Predictions
from trainer.run import Data, Setting
from trainer.serving import Scorer

Answers = dict[str, NDArray[np.float32]]


def describe(
    setting: Setting, data: Data, scorer: Scorer, recipe: Mapping[str, Any]
) -> tuple[Manifest, Predictions]:
    """What is known of a scorer: its manifest without files, and its predictions.

    Validation patients choose temperature, thresholds and the quantiles of the outlier
    score; held-out patients give the figures. `recipe` says how the scorer was made.
    """
    found = answers(scorer, data)
    learned = setting.division.learned_from
    predicted = replace(predictions_of(data, found), is_of_training=learned)
    manifest = _manifest(setting, data, predicted, recipe)
    if scorer.outlier_features is not None:
        scores = found["outlier_score"][data.rows("validation")].astype(np.float64)
        manifest = replace(
            manifest, outlier=outlier.describe(scores, scorer.outlier_features)
        )
    return replace(
        manifest,
        spread=scorer.spread,
        explanation=scorer.explanation,
        blessing=blessing.bless(
            setting.terms,
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
    for images in pixels.chunks(data.pixels):
        given = answer(tf.constant(images))
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


def _manifest(
    setting: Setting, data: Data, predicted: Predictions, recipe: Mapping[str, Any]
) -> Manifest:
    judged = predicted.part("held_out")
    points = _operating_points(setting, data, predicted)
    return Manifest(
        name=setting.card.name or setting.output.name,
        version=setting.card.version,
        task=data.examples.task,
        classes=data.examples.classes,
        findings=data.findings,
        preparation=setting.preparation,
        operating_points=points,
        calibration=Calibration(
            method="temperature",
            temperature=predicted.temperature,
            chosen_on="validation",
        ),
        eligibility=setting.card.eligibility,
        training_data=_training_data(setting, data),
        recipe=recipe,
        metrics=evaluate.metrics(
            _scored(judged),
            _margins(judged, points["default"].thresholds) >= 0,
            setting.seed,
        ),
        intended_use=setting.card.intended_use,
        limits=setting.card.limits,
        licence=setting.card.licence,
        packages=export.package_versions(),
        files={},
    )


def _scored(predicted: Predictions) -> Scored:
    return Scored(predicted.positives, predicted.scores, predicted.patients)


def _operating_points(
    setting: Setting, data: Data, predicted: Predictions
) -> dict[str, OperatingPoint]:
    if setting.tuned_on:
        tuned = out_of_fold.pooled(setting.tuned_on, data)
        patients = len(set(tuned.patients.tolist()))
        chosen_on = f"out of fold: {len(tuned)} images of {patients} patients"
    else:
        tuned, chosen_on = predicted.part("validation"), "validation"
    judged = predicted.part("held_out")
    points = {}
    for name, method in operating_points.METHODS.items():
        chosen = _chosen(tuned, method, setting.seed)
        thresholds = tuple(each.threshold for each in chosen)
        decided = replace(_scored(judged), scores=_margins(judged, thresholds))
        points[name] = OperatingPoint(
            thresholds=thresholds,
            method=method.description,
            chosen_on=chosen_on,
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


def _training_data(setting: Setting, data: Data) -> TrainingData:
    return TrainingData(
        source=setting.card.source,
        images=len(data.examples),
        duplicates_left_out=data.examples.duplicates,
        patient_pattern=setting.naming.patient,
        files_without_patient=data.examples.files_without_patient,
        split=split.describe(data.examples, data.parts),
        seed=setting.division.seed,
        split_digest=split.digest(data.examples, data.parts),
    )
