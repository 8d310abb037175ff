"""One training run from a folder of images to a model directory, step by step."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import softmax

from beam_pipeline.manifest import (
    Calibration,
    Manifest,
    OperatingPoint,
    Outlier,
    Preparation,
    TrainingData,
)
from trainer import (
    architectures,
    augment,
    calibrate,
    dataset,
    evaluate,
    export,
    fit,
    operating_points,
    outlier,
)
from trainer import (
    card as cards,
)
from trainer.card import Card
from trainer.dataset import Examples
from trainer.evaluate import Scored
from trainer.outlier import OutlierScore
from trainer.recipes import Recipe

_COMPARED = 64


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to train on, how, and where to leave it.

    Attributes:
        data: a folder of class folders.
        output: the model directory to make.
        recipe: see `recipes`.
        weights: the backbone's weights file; None starts at random.
        card: see `card`.
        patient_pattern: finds the patient in a file name.
        seed: of the split, the weights, the order and the augmentation.
    """

    data: Path
    output: Path
    recipe: Recipe
    weights: Path | None
    card: Card
    patient_pattern: str
    seed: int

    @property
    def logs(self) -> Path:
        """Beside the model: the split, the epochs, the best weights, the scores."""
        return self.output.with_name(self.output.name + ".training")


@dataclass(frozen=True)
class _Data:
    examples: Examples
    parts: NDArray[np.str_]
    pixels: NDArray[np.uint8]
    findings: tuple[str, ...]

    def positives(self) -> NDArray[np.bool_]:
        indices = [self.examples.classes.index(finding) for finding in self.findings]
        return np.isin(self.examples.labels, indices)


def train(run: Run) -> Manifest:
    """Train, calibrate, choose thresholds, evaluate and export; the model's manifest.

    Training patients teach; validation patients stop the training and choose the
    temperature, the thresholds and the quantiles of the outlier score; held-out
    patients give the figures in the manifest.

    Raises:
        DatasetError: the data cannot be trained on.
        FileExistsError: there is a model already where this one should go.
        ExportError: the model on disk differs from the trained one.
    """
    if run.output.exists():
        raise FileExistsError(f"{run.output} exists; choose another --output")
    run.logs.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(run.seed)
    tf.config.experimental.enable_op_determinism()
    preparation = Preparation(
        height=run.recipe.image_size,
        width=run.recipe.image_size,
        resize=run.recipe.resize,
    )
    data = _read(run, preparation)
    network = architectures.build(run.recipe, len(data.examples.classes), run.weights)
    fit.fit(network, _batches(run, data), run.recipe, run.logs)
    logits = _logits(network, data.pixels, run.recipe.batch_size)
    outlier_score, described = _outlier(run, data, network)
    manifest = replace(_manifest(run, data, logits, preparation), outlier=described)
    held_out = data.pixels[data.parts == "held_out"]
    export.export(network, outlier_score, manifest, run.output, held_out[:_COMPARED])
    return manifest


def _read(run: Run, preparation: Preparation) -> _Data:
    examples = dataset.find(run.data, run.patient_pattern)
    findings = cards.findings(run.card, examples.classes)
    parts = dataset.split(examples, run.seed)
    pixels = dataset.read(examples, preparation)
    return _Data(examples, parts, pixels, findings)


def _batches(run: Run, data: _Data) -> fit.Batches:
    labels = data.examples.labels[data.parts == "training"]
    return fit.Batches(
        training=_augmented(run, data),
        validation=_plain(run, data, "validation"),
        class_weights=fit.balanced_weights(labels),
    )


def _plain(
    run: Run, data: _Data, part: str, shuffle_seed: int | None = None
) -> tf.data.Dataset:
    chosen = data.parts == part
    return dataset.batches(
        data.pixels[chosen],
        data.examples.labels[chosen],
        run.recipe.batch_size,
        shuffle_seed=shuffle_seed,
    )


def _augmented(run: Run, data: _Data) -> tf.data.Dataset:
    plain = _plain(run, data, "training", run.seed)
    return augment.augmented(plain, run.recipe.augmentation, run.seed)


def _logits(
    network: keras.Model, pixels: NDArray[np.uint8], batch_size: int
) -> NDArray[np.float32]:
    unlabelled = np.zeros(len(pixels), np.int64)
    classifier = keras.Model(network.input, network.outputs[0])
    logits = classifier.predict(dataset.batches(pixels, unlabelled, batch_size))
    return np.asarray(logits)


def _outlier(
    run: Run, data: _Data, network: keras.Model
) -> tuple[OutlierScore, Outlier]:
    plain = _plain(run, data, "training", run.seed)
    score = outlier.fit(network, plain, _augmented(run, data))
    layouts = outlier.layouts(network, _plain(run, data, "validation"))
    scores = np.concatenate([score(layout) for layout in layouts])
    return score, outlier.describe(score, scores)


def _manifest(
    run: Run, data: _Data, logits: NDArray[np.float32], preparation: Preparation
) -> Manifest:
    validation, held_out = (data.parts == part for part in ("validation", "held_out"))
    temperature = calibrate.temperature(
        logits[validation], data.examples.labels[validation]
    )
    indices = [data.examples.classes.index(finding) for finding in data.findings]
    exact = softmax(logits.astype(np.float64) / temperature, axis=1)
    # Rounding can lift the sum of several findings a hair above 1.
    scores = np.minimum(exact[:, indices].sum(axis=1), 1.0)
    _write_scores(run, data, scores)
    tuned, judged = (_scored(data, scores, part) for part in (validation, held_out))
    points = _operating_points(tuned, judged)
    threshold = points["default"].thresholds[0]
    return Manifest(
        name=run.card.name or run.output.name,
        version=run.card.version,
        task="binary" if len(data.examples.classes) == 2 else "multiclass",
        classes=data.examples.classes,
        findings=data.findings,
        preparation=preparation,
        operating_points=points,
        calibration=Calibration(
            method="temperature", temperature=temperature, chosen_on="validation"
        ),
        eligibility=run.card.eligibility,
        training_data=_training_data(run, data),
        recipe=dataclasses.asdict(run.recipe),
        metrics=evaluate.metrics(judged, threshold, run.seed),
        intended_use=run.card.intended_use,
        limits=run.card.limits,
        licence=run.card.licence,
        packages=export.package_versions(),
        files={},
    )


def _scored(
    data: _Data, scores: NDArray[np.float64], part: NDArray[np.bool_]
) -> Scored:
    return Scored(data.positives()[part], scores[part], data.examples.patients[part])


def _operating_points(tuned: Scored, judged: Scored) -> dict[str, OperatingPoint]:
    curve = operating_points.curve(tuned.positives, tuned.scores)
    points = {}
    for name, method in operating_points.METHODS.items():
        threshold = method.choose(curve)
        points[name] = OperatingPoint(
            thresholds=(threshold,),
            method=method.description,
            chosen_on="validation",
            sensitivity=evaluate.sensitivity(judged, threshold),
            specificity=evaluate.specificity(judged, threshold),
        )
    return points


def _training_data(run: Run, data: _Data) -> TrainingData:
    return TrainingData(
        source=run.card.source,
        images=len(data.examples.paths),
        duplicates_left_out=data.examples.duplicates,
        patient_pattern=run.patient_pattern,
        files_without_patient=data.examples.files_without_patient,
        split=dataset.describe(data.examples, data.parts),
        seed=run.seed,
    )


def _write_scores(run: Run, data: _Data, scores: NDArray[np.float64]) -> None:
    examples = data.examples
    with (run.logs / "scores.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "class", "patient", "part", "score"])
        for path, label, patient, part, score in zip(
            examples.paths,
            examples.labels,
            examples.patients,
            data.parts,
            scores,
            strict=True,
        ):
            name = path.relative_to(run.data).as_posix()
            table.writerow([name, examples.classes[label], patient, part, float(score)])
