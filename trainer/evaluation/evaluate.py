"""Figures on patients that nothing else has seen, each with a 95 % interval.

`metrics`, `sensitivity` and `specificity` are what a manifest gets; `figures` is every
figure of one question, and `evaluate` puts the questions to a whole set of predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.manifest import Estimate
from trainer.evaluation import bootstrap, delong, intervals, subgroups
from trainer.evaluation import metrics as measures
from trainer.evaluation.bootstrap import Resamples
from trainer.evaluation.decisions import Decision
from trainer.evaluation.intervals import Absent, Reported
from trainer.evaluation.predictions import Predictions
from trainer.evaluation.subgroups import Subgroup

_RESAMPLES = 2000

Figures = Mapping[str, Reported]

# What a class's figures are called where there are several classes.
OF_A_CLASS = {"ppv": "precision", "sensitivity": "recall"}
_OF_A_MANIFEST = ("auc", "average_precision", "brier_score", "accuracy")


@dataclass(frozen=True)
class Scored:
    """Images with an answer and a score.

    Attributes:
        positives: bool, (images,): there is a finding.
        scores: float64, (images,), in [0, 1].
        patients: (images,): whose image it is.
    """

    positives: NDArray[np.bool_]
    scores: NDArray[np.float64]
    patients: NDArray[np.str_]


def metrics(
    scored: Scored, flagged: NDArray[np.bool_], seed: int
) -> dict[str, Estimate]:
    """The figures of a manifest: AUC, average precision, Brier score, and accuracy.

    `flagged`, bool, (images,), is what was decided of each; its accuracy is given.

    One that these images do not have, such as the AUC of two patients, is left out.

    Raises:
        ValueError: there are no findings, or nothing but findings.
    """
    if scored.positives.all() or not scored.positives.any():
        raise ValueError(
            f"{len(scored.positives)} held-out images are of one kind only: more "
            "patients of the other are needed for any figure"
        )
    resamples = resampled(scored.patients, seed)
    found = figures(scored, flagged, resamples)
    kept = {name: found[name] for name in _OF_A_MANIFEST}
    return {name: each for name, each in kept.items() if isinstance(each, Estimate)}


def sensitivity(scored: Scored, threshold: float) -> Estimate:
    """The share of findings with `score >= threshold`; see `intervals.proportion`.

    Raises:
        ValueError: there are no findings.
    """
    of = scored.positives
    return _known(scored.scores[of] >= threshold, scored.patients[of])


def specificity(scored: Scored, threshold: float) -> Estimate:
    """The share of images without a finding and `score < threshold`.

    Raises:
        ValueError: there are findings only.
    """
    of = ~scored.positives
    return _known(scored.scores[of] < threshold, scored.patients[of])


def _known(hits: NDArray[np.bool_], patients: NDArray[np.str_]) -> Estimate:
    share = intervals.proportion(hits, patients)
    if isinstance(share, Absent):
        raise ValueError("images of one kind only: more patients are needed")
    return share


def resampled(patients: NDArray[np.str_], seed: int) -> Resamples:
    """The resamples that all bootstrapped figures of these patients share."""
    return bootstrap.draw(patients, _RESAMPLES, seed)


def figures(
    scored: Scored,
    flagged: NDArray[np.bool_],
    resamples: Resamples,
    *,
    with_scores: bool = True,
) -> dict[str, Reported]:
    """Every figure of a yes-or-no question.

    Args:
        scored: the images.
        flagged: (images,), the decisions.
        resamples: of `scored.patients`.
        with_scores: also what depends on no threshold.
    """
    positives, scores, patients = scored.positives, scored.scores, scored.patients
    drawn = [measures.of_flags(positives, flagged)]
    if with_scores:
        drawn.insert(0, measures.of_scores(positives, scores))
    found = bootstrap.estimates(measures.joined(drawn), resamples, measures.UNDEFINED)
    auc = {"auc": delong.auc(positives, scores, patients)} if with_scores else {}
    return {**found, **auc, **_of_counts(positives, flagged, patients)}


def _of_counts(
    positives: NDArray[np.bool_],
    flagged: NDArray[np.bool_],
    patients: NDArray[np.str_],
) -> dict[str, Reported]:
    def share(hits: NDArray[np.bool_], among: NDArray[np.bool_], of: str) -> Reported:
        return intervals.proportion(hits[among], patients[among], of)

    sensitivity = share(flagged, positives, "images with the finding")
    specificity = share(~flagged, ~positives, "images without the finding")
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": share(positives, flagged, "flagged images"),
        "npv": share(~positives, ~flagged, "images that were not flagged"),
        "accuracy": share(flagged == positives, np.full_like(flagged, True), "images"),
        "lr_positive": intervals.likelihood_ratio(
            sensitivity, _complement(specificity), "no false alarm"
        ),
        "lr_negative": intervals.likelihood_ratio(
            _complement(sensitivity), specificity, "no image without the finding passed"
        ),
    }


def _complement(figure: Reported) -> Reported:
    return figure if isinstance(figure, Absent) else intervals.complement(figure)


def at_prevalence(found: Figures, prevalence: float) -> dict[str, Reported]:
    """PPV and NPV where that share of patients has the finding, by Bayes.

    Raises:
        ValueError: it is no share between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"a prevalence of {prevalence} is not between 0 and 1")
    sensitivity, specificity = found["sensitivity"], found["specificity"]
    return {
        "ppv": intervals.predictive_value(
            sensitivity, _complement(specificity), prevalence
        ),
        "npv": intervals.predictive_value(
            specificity, _complement(sensitivity), 1 - prevalence
        ),
    }


@dataclass(frozen=True)
class Evaluation:
    """All that is said of one set of predictions.

    Attributes:
        predictions: the images.
        decision: the thresholds.
        finding: every figure of "is there a finding?".
        prevalences: PPV and NPV at stated prevalences.
        overall: figures over all classes.
        classes: figures of each class.
        subgroups: see `subgroups`.
        controls: the figures of the same images after something was done to them.
        seed: of the resampling.
    """

    predictions: Predictions
    decision: Decision
    finding: Figures
    prevalences: Mapping[float, Figures]
    overall: Figures
    classes: Mapping[str, Figures]
    subgroups: tuple[Subgroup, ...]
    controls: Mapping[str, Figures] = field(default_factory=dict)
    seed: int = 1


def evaluate(
    predictions: Predictions,
    decision: Decision,
    *,
    prevalences: Sequence[float] = (),
    controls: Mapping[str, Predictions] | None = None,
    seed: int = 1,
) -> Evaluation:
    """Every figure of `predictions`.

    Args:
        predictions: images that the model has not learned from.
        decision: the thresholds.
        prevalences: at which PPV and NPV are asked for.
        controls: predictions on the same images after something was done to them.
        seed: of the resampling.

    Raises:
        ValueError: there are no images, or a prevalence is no share.
    """
    if not len(predictions):
        raise ValueError("there are no images to evaluate")
    resamples = resampled(predictions.patients, seed)
    finding = _of_finding(predictions, decision, resamples)
    return Evaluation(
        predictions=predictions,
        decision=decision,
        finding=finding,
        prevalences={share: at_prevalence(finding, share) for share in prevalences},
        overall=_overall(predictions, decision, resamples),
        classes={
            name: _of_class(predictions, decision, resamples, position)
            for position, name in enumerate(predictions.classes)
        },
        subgroups=subgroups.subgroups(predictions, decision.flagged(predictions)),
        controls={
            name: _of_finding(each, decision, resamples)
            for name, each in (controls or {}).items()
        },
        seed=seed,
    )


def scored_of(predictions: Predictions) -> Scored:
    """The question whether there is a finding."""
    return Scored(predictions.positives, predictions.scores, predictions.patients)


def _of_finding(
    predictions: Predictions, decision: Decision, resamples: Resamples
) -> Figures:
    return figures(scored_of(predictions), decision.flagged(predictions), resamples)


def _of_class(
    predictions: Predictions, decision: Decision, resamples: Resamples, position: int
) -> Figures:
    scored = Scored(
        predictions.labels[:, position],
        predictions.probabilities[:, position],
        predictions.patients,
    )
    found = figures(
        scored,
        decision.of_classes(predictions)[:, position],
        resamples,
        # Of two classes, one's order and errors are the other's.
        with_scores=predictions.task != "binary",
    )
    return {OF_A_CLASS.get(name, name): each for name, each in found.items()}


def _overall(
    predictions: Predictions, decision: Decision, resamples: Resamples
) -> Figures:
    found = bootstrap.estimates(
        overall_measure(predictions, decision), resamples, measures.UNDEFINED
    )
    if predictions.task == "multilabel":
        return found
    right = predictions.labels.argmax(axis=1) == decision.labels(predictions)
    return {**found, "accuracy": intervals.proportion(right, predictions.patients)}


def overall_measure(predictions: Predictions, decision: Decision) -> bootstrap.Measure:
    """What several classes are worth together; see `metrics`."""
    of = []
    # Of two classes, one's order and errors are the other's: the finding's say it all.
    if predictions.task != "binary":
        exclusive = predictions.task == "multiclass"
        of.append(
            measures.of_probabilities(
                predictions.labels, predictions.probabilities, exclusive
            )
        )
    if predictions.task != "multilabel":
        truth = predictions.labels.argmax(axis=1)
        decided = decision.labels(predictions)
        of.append(measures.of_classes(truth, decided, len(predictions.classes)))
    return measures.joined(of)
