"""An evaluation → a folder: one page, its figures, and all of it as data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.manifest import Estimate
from trainer import curves, evaluate, figures, predictions, report
from trainer.evaluate import Evaluation, Scored
from trainer.intervals import Absent, Reported
from trainer.report import Drawn

_PREVALENCES = np.geomspace(0.001, 0.9, 60)
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


@dataclass(frozen=True)
class _Question:
    """A yes-or-no question that has a score and a threshold."""

    name: str
    other: str
    scored: Scored
    threshold: float

    @property
    def has_both(self) -> bool:
        positives = self.scored.positives
        return bool(positives.any() and not positives.all())


def write(evaluation: Evaluation, subject: Subject, output: Path) -> None:
    """Write report.html, metrics.json, curves.json, tables, predictions and figures.

    Args:
        evaluation: what is said.
        subject: of what.
        output: an empty folder.
    """
    folder = output / "figures"
    drawn = report.save_figures(_drawn(evaluation), folder)
    of_subgroups = report.save_figures(_drawn_subgroups(evaluation), folder)
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


def _questions(evaluation: Evaluation) -> list[_Question]:
    of, thresholds = evaluation.predictions, evaluation.decision.thresholds
    if of.task == "multilabel":
        return [
            _Question(name, f"no {name}", Scored(on, chance, of.patients), threshold)
            for name, on, chance, threshold in zip(
                of.classes, of.labels.T, of.probabilities.T, thresholds, strict=True
            )
        ]
    others = [name for name in of.classes if name not in of.findings]
    name = of.findings[0] if len(of.findings) == 1 else "a finding"
    other = others[0] if len(others) == 1 else "no finding"
    return [_Question(name, other, evaluate.scored_of(of), thresholds[0])]


def _drawn(evaluation: Evaluation) -> Iterator[Drawn]:
    questions = _questions(evaluation)
    of = evaluation.predictions
    if any(question.has_both for question in questions):
        yield from _ordering(evaluation, questions)
    if of.task != "multilabel":
        matrix = curves.confusion(of.labels, evaluation.decision.labels(of))
        yield Drawn(
            "confusion_matrix",
            "Labels in rows, decisions in columns; below each count its share of the "
            "row. The diagonal holds the recalls.",
            figures.confusion({"Confusion matrix": matrix}, of.classes),
        )
    for question in questions:
        suffix = f"_{_file_name(question.name)}" if len(questions) > 1 else ""
        yield from _of_question(question, suffix)
    rates = [evaluation.finding[name] for name in ("sensitivity", "specificity")]
    if all(isinstance(rate, Estimate) for rate in rates):
        yield _predictive_values(evaluation)
    if of.spread is not None:
        wrong = evaluation.decision.flagged(of) != of.positives
        yield Drawn(
            "coverage_risk",
            "Were the images that the model's members disagree on left to a reader, "
            "this share of the others would be decided wrongly.",
            figures.coverage_risk(curves.coverage_risk(wrong, of.spread)),
        )


def _file_name(text: str) -> str:
    return re.sub(r"\W+", "_", text).lower()


def _ordering(evaluation: Evaluation, questions: list[_Question]) -> Iterator[Drawn]:
    """ROC and precision-recall: of the question, or of each class where several."""
    of = evaluation.predictions
    resamples = evaluate.resampled(of.patients, evaluation.seed)
    if of.task == "binary":
        named = {questions[0].name: (questions[0].scored, evaluation.finding)}
    else:
        pairs = zip(of.classes, of.labels.T, of.probabilities.T, strict=True)
        named = {
            name: (Scored(on, chance, of.patients), evaluation.classes[name])
            for name, on, chance in pairs
            if on.any() and not on.all()
        }
    scored = {name: pair[0] for name, pair in named.items()}
    yield Drawn(
        "roc",
        "How many findings are flagged at the price of how many false alarms, at every "
        "threshold. It does not depend on the prevalence.",
        figures.roc(
            {
                n: curves.roc(s.positives, s.scores, resamples)
                for n, s in scored.items()
            },
            {name: found["auc"] for name, (_, found) in named.items()},
            _points(named, "specificity", "sensitivity", flip=True),
        ),
    )
    yield Drawn(
        "precision_recall",
        "What share of the flagged images has the finding, against the share of "
        "findings flagged. It does depend on the prevalence.",
        figures.precision_recall(
            {
                n: curves.precision_recall(s.positives, s.scores)
                for n, s in scored.items()
            },
            {name: found["average_precision"] for name, (_, found) in named.items()},
            _points(named, "sensitivity", "ppv"),
        ),
    )


def _points(
    named: Mapping[str, tuple[Scored, evaluate.Figures]],
    x: str,
    y: str,
    *,
    flip: bool = False,
) -> dict[str, tuple[float, float]]:
    points = {}
    for name, (_, found) in named.items():
        across, up = (
            found.get(each, found.get(evaluate.OF_A_CLASS.get(each, "")))
            for each in (x, y)
        )
        if isinstance(across, Estimate) and isinstance(up, Estimate):
            points[name] = (1 - across.value if flip else across.value, up.value)
    return points


def _of_question(question: _Question, suffix: str) -> Iterator[Drawn]:
    scored = question.scored
    kinds = {question.other: ~scored.positives, question.name: scored.positives}
    about = f"{question.name}. " if suffix else ""
    spread = curves.histogram(scored.scores, kinds)
    yield Drawn(
        f"scores{suffix}",
        f"Scores of images with {question.name} and of the others. Where they overlap, "
        "no threshold is right.",
        figures.histogram(spread, question.threshold),
    )
    if not question.has_both:
        return
    sweep = curves.sweep(scored.positives, scored.scores)
    yield Drawn(
        f"thresholds{suffix}",
        f"{about}What another threshold would do. Left: the recalls of both kinds. "
        "Right: precision and recall of the finding, at the prevalence of these images.",
        figures.thresholds(sweep, question.threshold, question.name, question.other),
        wide=True,
    )
    yield Drawn(
        f"reliability{suffix}",
        f"{about}Of images with a predicted probability of 0.8, eight in ten should "
        "have the finding. Each dot is a tenth of the images.",
        figures.reliability(
            curves.reliability(scored.positives, scored.scores, scored.patients), spread
        ),
    )
    yield Drawn(
        f"decision_curve{suffix}",
        f"{about}Net benefit of acting on flagged images, for readers who would act "
        "from that probability on (Vickers & Elkin 2006). A useful model is above both other "
        "lines.",
        figures.decision_curve({"model": sweep}, float(scored.positives.mean())),
    )


def _predictive_values(evaluation: Evaluation) -> Drawn:
    found = [evaluate.at_prevalence(evaluation.finding, p) for p in _PREVALENCES]
    values: dict[str, list[Reported]] = {
        "PPV": [each["ppv"] for each in found],
        "NPV": [each["npv"] for each in found],
    }
    return Drawn(
        "predictive_values",
        "How far a flag (PPV) and its absence (NPV) can be trusted where the finding "
        "is rarer or commoner than here.",
        figures.predictive_values(
            _PREVALENCES, values, float(evaluation.predictions.positives.mean())
        ),
    )


def _drawn_subgroups(evaluation: Evaluation) -> Iterator[Drawn]:
    if evaluation.subgroups:
        yield Drawn(
            "subgroups",
            "Each subgroup with its 95 % interval; dotted, all images.",
            figures.forest(evaluation.subgroups, evaluation.finding),
            wide=True,
        )


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
    for question in _questions(evaluation):
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
