"""python -m trainer evaluate: every figure of a model on labelled images.

As a page and as data: see docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands import train
from trainer.data import dataset

if TYPE_CHECKING:
    from beam_pipeline.manifest import Manifest
    from trainer.data.dataset import Examples
    from trainer.evaluation.decisions import Decision
    from trainer.evaluation.evaluate import Evaluation
    from trainer.evaluation.evaluation_report import Subject
    from trainer.evaluation.predictions import Predictions

_CONTROLS = ("occlude_center",)
_PREVALENCES = (0.01, 0.02, 0.1)
_SHOWN = ("auc", "average_precision", "sensitivity", "specificity", "ppv", "npv",
          "accuracy", "f1", "mcc", "brier_score", "calibration_slope")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `evaluate`."""
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--data",
        type=Path,
        help="labelled images: a folder with a folder for each class, or a CSV with "
        "path and label",
    )
    given.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="predictions.parquet of train or evaluate, in the place of images",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="MODEL_DIR",
        help="what scores --data, and has the thresholds (default: for --data, "
        "the model in the box)",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to make for the report"
    )
    parser.add_argument(
        "--part",
        choices=("training", "validation", "held_out"),
        help="of images that come divided",
    )
    threshold = parser.add_mutually_exclusive_group()
    threshold.add_argument(
        "--operating_point",
        default="default",
        metavar="NAME",
        help="of the model; or one to choose on validation images in --predictions: "
        "youden, sensitivity=0.95, cost=10:1@0.02 …: see docs/evaluation.md",
    )
    threshold.add_argument("--threshold", type=float, metavar="X", help="your own")
    parser.add_argument(
        "--prevalence",
        type=float,
        action="append",
        metavar="SHARE",
        help="where PPV and NPV are asked for, such as 0.02; may be repeated "
        f"(default: {', '.join(map(str, _PREVALENCES))})",
    )
    parser.add_argument(
        "--control",
        action="append",
        choices=_CONTROLS,
        default=[],
        help="score the same images with the place of the lungs painted black too",
    )
    train.add_patients(parser)
    parser.add_argument(
        "--subtype_pattern",
        metavar="REGEX",
        help="finds a finding's subtype in a file name, such as (bacteria|virus)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the resampling")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, write the folder, print what matters most; the exit code.

    Raises:
        ValueError: flags, data, predictions or model that cannot be used together.
        OSError: a file that cannot be read, or an output that is not empty.
    """
    from trainer.evaluation import evaluate, evaluation_report, report

    report.check_folder(arguments.output)
    given = _of_images(arguments) if arguments.data else _of_predictions(arguments)
    evaluation = evaluate.evaluate(
        given.predictions,
        given.decision,
        prevalences=arguments.prevalence or _PREVALENCES,
        controls=given.controls,
        seed=arguments.seed,
    )
    report.make_folder(arguments.output)
    evaluation_report.write(evaluation, given.subject, arguments.output)
    _print(evaluation)
    print(f"\n{arguments.output / 'report.html'}")
    return 0


@dataclass(frozen=True)
class _Given:
    """What the flags name, read."""

    predictions: Predictions
    decision: Decision
    subject: Subject
    controls: Mapping[str, Predictions] = field(default_factory=dict)


def _of_images(arguments: argparse.Namespace) -> _Given:
    from beam_pipeline import manifest as manifests
    from beam_pipeline import saved_model
    from trainer.evaluation import decisions, scoring
    from trainer.evaluation.evaluation_report import Subject

    examples = dataset.find(
        arguments.data,
        dataset.Naming(arguments.patient_pattern, subtype=arguments.subtype_pattern),
    )
    model = saved_model.load(arguments.model or manifests.DEFAULT_MODEL)
    manifest = model.manifest
    if not arguments.part and _are_of_training(examples, manifest):
        print(
            f"{arguments.data} has as many images of each class as {manifest.name} was "
            "trained and judged on. If they are the same, these figures flatter it: "
            "give --predictions MODEL_DIR.training/predictions.parquet --part held_out",
            file=sys.stderr,
        )
    if arguments.part:
        examples = examples.chosen(examples.given_parts == arguments.part)
    if not len(examples):
        raise ValueError(f"{arguments.data} has no images of {arguments.part}")
    if arguments.threshold is None:
        decision = decisions.of_manifest(manifest, arguments.operating_point)
    scores = scoring.score(model, examples, tuple(arguments.control))
    if arguments.threshold is not None:
        decision = decisions.given(arguments.threshold, scores.predictions)
    subject = Subject(
        model=f"{manifest.name} {manifest.version}",
        model_digest=model.digest,
        data=str(arguments.data),
        part=arguments.part or "",
        left_out=scores.left_out,
    )
    return _Given(scores.predictions, decision, subject, scores.controls)


def _are_of_training(examples: Examples, manifest: Manifest) -> bool:
    """Whether these may be the images that the model was made with, all parts of them.

    A manifest has no list of them: their numbers have to do.
    """
    made_with: Counter[str] = Counter()
    for part in manifest.training_data.split.values():
        made_with.update(part.images_by_class)
    given = dict(zip(examples.classes, examples.labels.sum(axis=0), strict=True))
    return len(examples) == manifest.training_data.images and given == made_with


def _of_predictions(arguments: argparse.Namespace) -> _Given:
    from beam_pipeline import manifest as manifests
    from trainer.evaluation import predictions
    from trainer.evaluation.evaluation_report import Subject

    if arguments.control or arguments.subtype_pattern:
        raise ValueError("--control and --subtype_pattern need the images: give --data")
    everything = predictions.load(arguments.predictions)
    chosen = one_part(everything, arguments.part, arguments.predictions)
    manifest = manifests.load(arguments.model) if arguments.model else None
    subject = Subject(
        model=f"{manifest.name} {manifest.version}" if manifest else "",
        model_digest="",
        data=str(arguments.predictions),
        part=str(chosen.parts[0]),
    )
    return _Given(chosen, _decision(arguments, manifest, everything), subject)


def one_part(everything: Predictions, part: str | None, source: Path) -> Predictions:
    """The images of one part: the one that was asked for, or the only one there is.

    Raises:
        ValueError: there are several, or none of that name.
    """
    parts = sorted(set(everything.parts))
    if part is None and len(parts) > 1:
        held = ", ".join(each or "(none)" for each in parts)
        raise ValueError(f"{source} holds the parts {held}: say which with --part")
    chosen = everything.part(part) if part else everything
    if not len(chosen):
        raise ValueError(f"{source} has no images{f' of {part}' if part else ''}")
    return chosen


def _decision(
    arguments: argparse.Namespace, manifest: Manifest | None, everything: Predictions
) -> Decision:
    """A number; else the model's own point; else one chosen on validation images."""
    from trainer.evaluation import decisions

    if arguments.threshold is not None:
        return decisions.given(arguments.threshold, everything)
    name = arguments.operating_point
    if manifest is not None:
        if manifest.classes != everything.classes:
            raise ValueError(
                f"the model {manifest.name} knows {', '.join(manifest.classes)}, and "
                f"the predictions are of {', '.join(everything.classes)}"
            )
        if name in manifest.operating_points:
            return decisions.of_manifest(manifest, name)
    return decisions.chosen(everything, name, arguments.seed)


def _print(evaluation: Evaluation) -> None:
    from trainer.evaluation import report
    from trainer.evaluation.intervals import Absent

    of = evaluation.predictions
    print(
        f"{len(of)} images of {len(set(of.patients))} patients, "
        f"{of.positives.sum()} with a finding; threshold "
        f"{', '.join(f'{each:.4g}' for each in evaluation.decision.thresholds)}"
    )
    rows = {report.LABELS[name]: evaluation.finding[name] for name in _SHOWN}
    for share, values in evaluation.prevalences.items():
        rows[f"PPV at {100 * share:g} % prevalence"] = values["ppv"]
    for name, values in evaluation.controls.items():
        rows[f"AUC, {name}"] = values["auc"]
    for label, figure in rows.items():
        reason = f"({figure.reason})" if isinstance(figure, Absent) else ""
        shown = f"{report.number(figure):>7}  {report.interval(figure)}{reason}"
        print(f"  {label:31}{shown}")
