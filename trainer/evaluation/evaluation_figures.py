"""What is drawn of an evaluation, and what is said below each figure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from beam_pipeline.manifest import Estimate
from trainer.evaluation import curves, evaluate, figures
from trainer.evaluation.evaluate import Evaluation, Scored
from trainer.evaluation.intervals import Reported
from trainer.evaluation.report import Drawn

_PREVALENCES = np.geomspace(0.001, 0.9, 60)


@dataclass(frozen=True)
class Question:
    """A yes-or-no question that has a score and a threshold."""

    name: str
    other: str
    scored: Scored
    threshold: float

    @property
    def has_both(self) -> bool:
        """Whether there are images of either kind."""
        positives = self.scored.positives
        return bool(positives.any() and not positives.all())


def questions_of(evaluation: Evaluation) -> list[Question]:
    """Whether there is a finding; of a multi-label model, one question a class."""
    of, thresholds = evaluation.predictions, evaluation.decision.thresholds
    if of.task == "multilabel":
        return [
            Question(name, f"no {name}", Scored(on, chance, of.patients), threshold)
            for name, on, chance, threshold in zip(
                of.classes, of.labels.T, of.probabilities.T, thresholds, strict=True
            )
        ]
    others = [name for name in of.classes if name not in of.findings]
    name = of.findings[0] if len(of.findings) == 1 else "a finding"
    other = others[0] if len(others) == 1 else "no finding"
    return [Question(name, other, evaluate.scored_of(of), thresholds[0])]


def drawn(evaluation: Evaluation) -> Iterator[Drawn]:
    """Every figure of all images; those that need both kinds only where both are."""
    questions = questions_of(evaluation)
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


def _ordering(evaluation: Evaluation, questions: list[Question]) -> Iterator[Drawn]:
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


def _of_question(question: Question, suffix: str) -> Iterator[Drawn]:
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
        "Right: precision and recall of the finding, at the prevalence seen here.",
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
        "from that probability on (Vickers & Elkin 2006). A useful model is above both "
        "other lines.",
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


def drawn_subgroups(evaluation: Evaluation) -> Iterator[Drawn]:
    """The figure of the subgroups, if there are any."""
    if evaluation.subgroups:
        yield Drawn(
            "subgroups",
            "Each subgroup with its 95 % interval; dotted, all images.",
            figures.forest(evaluation.subgroups, evaluation.finding),
            wide=True,
        )
