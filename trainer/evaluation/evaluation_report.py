"""An evaluation → a folder: one page, its figures, and all of it as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation import curves, evaluate, evaluation_figures, predictions, report
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.intervals import Absent

_CLASS_COLUMNS = ("auc", "precision", "recall", "specificity", "f1")


@dataclass(frozen=True)
class Subject:
    """What was evaluated, in words.

    Attributes:
        model: its name and version; "" where only predictions are known.
        model_digest: `sha256:…`, or "".
        data: where the images or the predictions come from.
        part: of a divided set, or "".
        left_out: files that could not be read, by reason.
    """

    model: str
    model_digest: str
    data: str
    part: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)


def write(evaluation: Evaluation, subject: Subject, output: Path) -> None:
    """Write report.html, metrics.json, curves.json, tables, predictions and figures.

    Args:
        evaluation: what is said.
        subject: of what.
        output: an empty folder.
    """
    folder = output / "figures"
    drawn = report.save_figures(evaluation_figures.drawn(evaluation), folder)
    of_subgroups = report.save_figures(
        evaluation_figures.drawn_subgroups(evaluation), folder
    )
    predictions.save(evaluation.predictions, output / "predictions.parquet")
    report.write_json(output / "metrics.json", _document(evaluation, subject))
    report.write_json(output / "curves.json", _curves(evaluation), indent=None)
    _write_tables(evaluation, output)
    of = evaluation.predictions
    report.render(
        "evaluation.html",
        output / "report.html",
        title=f"Evaluation of {subject.model or 'predictions'}",
        subject=subject,
        images=len(of),
        patients=len(set(of.patients)),
        positives=int(of.positives.sum()),
        findings=of.findings,
        facts=_facts(evaluation, subject),
        notices=_notices(evaluation, subject),
        finding=evaluation.finding,
        prevalences=evaluation.prevalences,
        figures=drawn,
        class_columns=[
            name
            for name in _CLASS_COLUMNS
            if all(name in values for values in evaluation.classes.values())
        ],
        classes=evaluation.classes,
        support=_support(evaluation),
        overall=evaluation.overall,
        subgroups=evaluation.subgroups,
        subgroup_figures=of_subgroups,
        controls=evaluation.controls,
        resamples=evaluate._RESAMPLES,
    )


def _support(evaluation: Evaluation) -> dict[str, int]:
    of = evaluation.predictions
    counts = of.labels.sum(axis=0).tolist()
    return dict(zip(of.classes, counts, strict=True))


def _facts(evaluation: Evaluation, subject: Subject) -> dict[str, str]:
    decision = evaluation.decision
    thresholds = ", ".join(f"{each:.4g}" for each in decision.thresholds)
    ranges = ", ".join(f"{low:.3g} to {high:.3g}" for low, high in decision.ranges)
    named = f"{decision.name}: " if decision.name else ""
    facts = {
        "Model": subject.model,
        "Digest": subject.model_digest,
        "Part": subject.part.replace("_", " "),
        "Task": evaluation.predictions.task,
        "Operating point": f"{named}score ≥ {thresholds} ({decision.method})",
        "Chosen on": decision.chosen_on,
        "Threshold's 95 % interval": ranges and f"{ranges}, over resampled patients",
    }
    return {name: value for name, value in facts.items() if value}


def _notices(evaluation: Evaluation, subject: Subject) -> list[str]:
    notices = []
    if subject.left_out:
        reasons = ", ".join(f"{name} {n}" for name, n in subject.left_out.items())
        notices.append(f"Files that could not be read and are left out: {reasons}.")
    if subject.part in ("training", "validation"):
        notices.append(
            f"These are {subject.part} images: the model or its thresholds were fitted "
            "to them, and the figures flatter it."
        )
    found = evaluation.finding["auc"]
    if isinstance(found, Absent):
        notices.append(f"There is no AUC: {found.reason}.")
    return notices


def _document(evaluation: Evaluation, subject: Subject) -> dict[str, object]:
    of = evaluation.predictions
    return {
        "schema_version": 1,
        "subject": subject,
        "task": of.task,
        "classes": of.classes,
        "findings": of.findings,
        "images": len(of),
        "patients": len(set(of.patients)),
        "images_with_finding": int(of.positives.sum()),
        "images_by_class": _support(evaluation),
        "decision": evaluation.decision,
        "seed": evaluation.seed,
        "resamples": evaluate._RESAMPLES,
        "finding": evaluation.finding,
        "at_prevalence": evaluation.prevalences,
        "overall": evaluation.overall,
        "by_class": evaluation.classes,
        "subgroups": evaluation.subgroups,
        "controls": evaluation.controls,
    }


def _curves(evaluation: Evaluation) -> dict[str, object]:
    of = evaluation.predictions
    resamples = evaluate.resampled(of.patients, evaluation.seed)
    document: dict[str, object] = {}
    for question in evaluation_figures.questions_of(evaluation):
        if not question.has_both:
            continue
        positives, scores = question.scored.positives, question.scored.scores
        kinds = {question.other: ~positives, question.name: positives}
        document[question.name] = {
            "roc": curves.roc(positives, scores, resamples),
            "precision_recall": curves.precision_recall(positives, scores),
            "thresholds": curves.sweep(positives, scores),
            "reliability": curves.reliability(positives, scores, of.patients),
            "histogram": curves.histogram(scores, kinds),
        }
    if of.spread is not None:
        wrong = evaluation.decision.flagged(of) != of.positives
        document["coverage_risk"] = curves.coverage_risk(wrong, of.spread)
    return document


def _write_tables(evaluation: Evaluation, output: Path) -> None:
    groups = {
        "finding": evaluation.finding,
        **{f"at prevalence {p:g}": f for p, f in evaluation.prevalences.items()},
        "overall": evaluation.overall,
        **{f"class {name}": f for name, f in evaluation.classes.items()},
        **{f"control {name}": f for name, f in evaluation.controls.items()},
    }
    report.write_csv(
        output / "metrics.csv",
        ("group", "metric", *report.FIGURE_COLUMNS),
        (
            (group, name, *report.cells(figure))
            for group, found in groups.items()
            for name, figure in found.items()
        ),
    )
    report.write_csv(
        output / "subgroups.csv",
        (
            *("column", "group", "patients", "images", "positives", "metric"),
            *report.FIGURE_COLUMNS,
        ),
        (
            (
                *(row.column, row.value, row.patients, row.images, row.positives),
                metric,
                *report.cells(getattr(row, metric)),
            )
            for row in evaluation.subgroups
            for metric in ("auc", "sensitivity", "specificity")
        ),
    )
    report.write_csv(
        output / "confusion_matrix.csv",
        ("class", "label", "decision", "images", "share_of_label"),
        _confusion_rows(evaluation),
    )


def _confusion_rows(evaluation: Evaluation) -> Iterator[tuple[object, ...]]:
    """All classes against all; of a multi-label model each against its absence."""
    of, decision = evaluation.predictions, evaluation.decision
    tables: dict[str, tuple[NDArray[np.int64], tuple[str, ...]]]
    if of.task == "multilabel":
        decided = decision.of_classes(of)
        tables = {
            name: (_two_by_two(of.labels[:, i], decided[:, i]), ("absent", "present"))
            for i, name in enumerate(of.classes)
        }
    else:
        matrix = curves.confusion(of.labels, decision.labels(of))
        tables = {"": (matrix, of.classes)}
    for name, (matrix, names) in tables.items():
        for (row, column), images in np.ndenumerate(matrix):
            total = int(matrix[row].sum())
            share = images / total if total else ""
            yield name, names[row], names[column], int(images), share


def _two_by_two(
    labels: NDArray[np.bool_], decided: NDArray[np.bool_]
) -> NDArray[np.int64]:
    both = np.stack([~labels, labels], axis=1)
    return curves.confusion(both, decided.astype(np.int64))
