"""python -m trainer train: train a model and export it with its manifest."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import recipes
from trainer.data import dataset

if TYPE_CHECKING:
    from beam_pipeline.manifest import Manifest
    from trainer.architectures import Weights
    from trainer.blessing import Terms
    from trainer.data.split import Division


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `train`."""
    add = parser.add_argument
    add_data(parser)
    add_output(parser)
    add_recipe(parser)
    add("--card", type=Path, metavar="TOML", help="intended use, findings, eligibility")
    add_terms(parser)
    add(
        "--tuned_on",
        type=Path,
        action="append",
        metavar="PARQUET",
        help="predictions.parquet of a fold's model, to choose thresholds on its "
        "held-out patients; once for each fold (default: the validation patients)",
    )
    add(
        "--also_keras",
        action="store_true",
        help="write the Keras model as OUTPUT.keras too",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flag that says where the model goes."""
    parser.add_argument(
        "--output", type=Path, required=True, help="model directory to make"
    )


def add_terms(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags that say when a model is blessed."""
    add = parser.add_argument
    add(
        "--require",
        action="append",
        metavar="METRIC=X",
        help="the model is blessed only if this metric is X or better on held-out "
        "patients: auc, average_precision, accuracy, of which more is better, or "
        "brier_score, of which less is; may be repeated (default: auc=0.9)",
    )
    add(
        "--replaces",
        type=Path,
        metavar="MODEL_DIR",
        help="and only if its AUC is higher than this model's on the same patients",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags that say what to learn from, and how it is divided."""
    add = parser.add_argument
    add_source(parser)
    add_patients(parser)
    add_classes(parser)
    add("--subtype_pattern", metavar="REGEX", help="finds what else is known, likewise")
    add(
        "--split",
        choices=("patients", "given"),
        default="patients",
        help="divide the patients anew, or keep the folders train, val and test",
    )
    add(
        "--fold",
        metavar="K/N",
        help="hold out the Kth of N folds of the patients (default: three twentieths)",
    )
    add(
        "--min_validation",
        type=int,
        default=30,
        metavar="N",
        help="refuse fewer validation images with a finding, or without; of several "
        "labels with each, or without",
    )
    add(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where decoded images are kept, to be shared between runs",
    )
    add("--split_seed", type=int, default=1, help="of the division of the patients")
    add("--seed", type=int, default=1, help="of everything else that is random")


def add_source(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flag that says where labelled images are."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="a folder with a folder for each class, or a CSV with path and label",
    )


def add_patients(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flag that says whose image a file is."""
    parser.add_argument(
        "--patient_pattern",
        default=dataset.PATIENT_PATTERN,
        metavar="REGEX",
        help="finds the patient in a file name; a file without is its own patient",
    )


def add_classes(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flag that says which class a file name stands for."""
    parser.add_argument(
        "--class_pattern", metavar="REGEX", help="finds the class in a file name"
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags that say how to train."""
    add = parser.add_argument
    add(
        "--recipe",
        default="mobilenet",
        metavar="NAME|TOML",
        help="how to train: " + ", ".join(recipes.RECIPES) + "; or a file",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe, such as image_size=128 or "
        "augmentation.rotation=5; may be repeated; `python -m trainer recipes NAME` "
        "lists them",
    )
    add(
        "--weights",
        required=True,
        metavar="imagenet|FILE|none",
        help="where the backbone starts: ImageNet, which Keras downloads; a file of "
        "Keras's weights without top; or at random",
    )
    add(
        "--teacher",
        type=Path,
        metavar="MODEL|PARQUET",
        help="a model, or predictions, to learn from beside the labels; the recipe's "
        "field distillation says how much",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train; the exit code."""
    from beam_pipeline import saved_model

    saved_model.tensorflow()
    from trainer import card, train
    from trainer.run import Run

    run = Run(
        data=arguments.data,
        naming=naming(arguments),
        division=division(arguments),
        output=arguments.output,
        recipe=recipes.load(arguments.recipe, arguments.set),
        weights=weights(arguments.weights),
        card=card.load(arguments.card) if arguments.card else card.Card(),
        seed=arguments.seed,
        cache=arguments.cache,
        teacher=arguments.teacher,
        terms=terms(arguments),
        also_keras=arguments.also_keras,
        tuned_on=tuple(arguments.tuned_on or ()),
    )
    say(run.output, train.train(run))
    return 0


def naming(arguments: argparse.Namespace) -> dataset.Naming:
    """How patients, classes and subtypes are found in file names."""
    return dataset.Naming(
        arguments.patient_pattern, arguments.class_pattern, arguments.subtype_pattern
    )


def division(arguments: argparse.Namespace) -> Division:
    """How the patients are divided.

    Raises:
        ValueError: a fold that is none, or together with a given split.
    """
    from trainer.data.split import Division

    fold, folds = None, 1
    if arguments.fold is not None:
        number, _, count = arguments.fold.partition("/")
        if not (number.isdigit() and count.isdigit() and 0 < int(number) <= int(count)):
            raise ValueError(
                f"--fold {arguments.fold} is not K/N with K from 1 to N, as in 2/5"
            )
        if arguments.split == "given":
            raise ValueError("--fold divides anew; it cannot go with --split given")
        fold, folds = int(number), int(count)
        if folds < 2:
            raise ValueError(f"--fold {arguments.fold}: two folds or more are needed")
    return Division(
        seed=arguments.split_seed,
        fold=fold,
        folds=folds,
        given=arguments.split == "given",
        least_validation=arguments.min_validation,
    )


def weights(text: str) -> Weights:
    """What --weights means.

    Raises:
        FileNotFoundError: a file that is not there.
    """
    if text == "imagenet":
        return "imagenet"
    if text == "none":
        return None
    if not Path(text).is_file():
        raise FileNotFoundError(f"--weights {text}: there is no such file")
    return Path(text)


def terms(arguments: argparse.Namespace) -> Terms:
    """On which the model is blessed.

    Raises:
        ValueError: a term that is not METRIC=X.
    """
    from trainer.blessing import REQUIRED, Terms

    required = required_of(arguments.require) if arguments.require else REQUIRED
    return Terms(required, arguments.replaces)


def required_of(texts: Sequence[str]) -> dict[str, float]:
    """The worst value of each metric that is allowed.

    Raises:
        ValueError: a text that is not METRIC=X.
    """
    required = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            required[name] = float(value)
        except ValueError:
            raise ValueError(f"--require {text} is not METRIC=X") from None
    return required


def say(output: Path, manifest: Manifest) -> None:
    """Print what a new model is worth."""
    print(f"\n{output}: {manifest.name} {manifest.version}, on held-out patients:")
    for name, figure in manifest.metrics.items():
        print(f"  {name:18} {figure.value:.3f} ({figure.low:.3f}–{figure.high:.3f})")
    for name, point in manifest.operating_points.items():
        thresholds = ", ".join(f"{threshold:.3f}" for threshold in point.thresholds)
        print(
            f"  {name:18} threshold {thresholds}, "
            f"sensitivity {point.sensitivity.value:.3f}, "
            f"specificity {point.specificity.value:.3f}"
        )
    if manifest.blessing is not None:
        verdict = "blessed" if manifest.blessing.blessed else "NOT blessed"
        print(f"{verdict}: {'; '.join(manifest.blessing.reasons)}")
