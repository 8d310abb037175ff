"""Several models on the same images: what differs, by how much, and whether by chance.

The first model is the reference; every difference is another model minus the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation import bootstrap, delong, evaluate, metrics
from trainer.evaluation.decisions import Decision
from trainer.evaluation.delong import Difference
from trainer.evaluation.evaluate import Figures
from trainer.evaluation.predictions import Predictions

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidate:
    """A model's predictions, and its thresholds."""

    name: str
    predictions: Predictions
    decision: Decision


@dataclass(frozen=True)
class McNemar:
    """Decisions that only one of two models gets right.

    Attributes:
        only_other: images that the other model alone decides rightly.
        only_reference: images that the reference alone does.
        p_value: exact and two-sided, of no difference.
    """

    only_other: int
    only_reference: int
    p_value: float


@dataclass(frozen=True)
class Reclassification:
    """Images whose decision changes from the reference to the other model."""

    findings: int
    findings_gained: int
    findings_lost: int
    others: int
    alarms_gained: int
    alarms_lost: int


@dataclass(frozen=True)
class Pair:
    """One model against the reference.

    Attributes:
        reference: its name.
        other: the other's name.
        auc: the paired test of DeLong.
        mcnemar: of all decisions.
        differences: other minus reference, bootstrapped over patients. That of the
            Youden index is the net reclassification improvement.
        overall: the same of what all classes have together.
        reclassification: how decisions change.
    """

    reference: str
    other: str
    auc: Difference | None
    mcnemar: McNemar
    differences: Figures
    overall: Figures
    reclassification: Reclassification


@dataclass(frozen=True)
class Comparison:
    """Models side by side.

    Attributes:
        candidates: with the same images in the same order.
        figures: of each, by its name.
        pairs: each model but the first against the first.
        seed: of the resampling.
    """

    candidates: tuple[Candidate, ...]
    figures: Mapping[str, Figures]
    pairs: tuple[Pair, ...]
    seed: int


def compare(candidates: Sequence[Candidate], seed: int) -> Comparison:
    """Every figure of each, and of their differences.

    Raises:
        ValueError: fewer than two models, two of one name, or other images.
    """
    names = [candidate.name for candidate in candidates]
    if len(names) < 2:
        raise ValueError("a comparison needs two models or more")
    if len(set(names)) < len(names):
        raise ValueError(f"two models have one name ({', '.join(names)}): give --name")
    first = candidates[0]
    aligned = (first, *(_aligned(each, first) for each in candidates[1:]))
    resamples = evaluate.resampled(first.predictions.patients, seed)
    return Comparison(
        candidates=aligned,
        figures={
            each.name: evaluate.figures(
                evaluate.scored_of(each.predictions),
                each.decision.flagged(each.predictions),
                resamples,
            )
            for each in aligned
        },
        pairs=tuple(_pair(first, each, resamples) for each in aligned[1:]),
        seed=seed,
    )


def _aligned(candidate: Candidate, reference: Candidate) -> Candidate:
    """The candidate with its images in the reference's order and of its patients.

    Raises:
        ValueError: other images, classes or labels.
    """
    of, to = candidate.predictions, reference.predictions
    both = f"{reference.name} and {candidate.name}"
    if (of.classes, of.findings, of.task) != (to.classes, to.findings, to.task):
        raise ValueError(
            f"{both} answer different questions: {', '.join(to.classes)} with the "
            f"findings {', '.join(to.findings)} ({to.task}), and "
            f"{', '.join(of.classes)} with {', '.join(of.findings)} ({of.task})"
        )
    rows = {name: row for row, name in enumerate(of.names.tolist())}
    expected = to.names.tolist()
    missing, added = set(expected) - rows.keys(), rows.keys() - set(expected)
    if missing or added:
        raise ValueError(
            f"{both} are of different images: {len(missing)} are of "
            f"{reference.name} alone, {len(added)} of {candidate.name} alone, "
            f"{len(rows) - len(added)} of both"
        )
    if len(rows) < len(of) or len(set(expected)) < len(to):
        raise ValueError(f"{both}: a path stands in several rows")
    order = np.array([rows[name] for name in expected])
    sorted_ = replace(
        of,
        names=to.names,
        labels=of.labels[order],
        logits=of.logits[order],
        patients=to.patients,
        parts=to.parts,
        columns=to.columns,
        spread=None if of.spread is None else of.spread[order],
    )
    differing = int((sorted_.labels != to.labels).any(axis=1).sum())
    if differing:
        raise ValueError(f"{both}: {differing} images have other labels")
    return replace(candidate, predictions=sorted_)


def _pair(
    reference: Candidate, other: Candidate, resamples: bootstrap.Resamples
) -> Pair:
    of, to = other.predictions, reference.predictions
    flagged, before = other.decision.flagged(of), reference.decision.flagged(to)
    return Pair(
        reference=reference.name,
        other=other.name,
        auc=_auc_difference(of, to),
        mcnemar=mcnemar(_right(other), _right(reference), to.patients),
        differences=bootstrap.estimates(
            metrics.difference(_measure(of, flagged), _measure(to, before)),
            resamples,
            metrics.UNDEFINED,
        ),
        overall=bootstrap.estimates(
            metrics.difference(
                evaluate.overall_measure(of, other.decision),
                evaluate.overall_measure(to, reference.decision),
            ),
            resamples,
            metrics.UNDEFINED,
        ),
        reclassification=reclassification(to.positives, flagged, before),
    )


def _measure(predictions: Predictions, flagged: Flags) -> bootstrap.Measure:
    return metrics.joined(
        [
            metrics.of_scores(predictions.positives, predictions.scores),
            metrics.of_flags(predictions.positives, flagged),
        ]
    )


def _auc_difference(of: Predictions, to: Predictions) -> Difference | None:
    try:
        found = delong.aucs(of.positives, np.stack([of.scores, to.scores]), to.patients)
    except ValueError:
        # One kind only: neither has an AUC, as their figures say.
        return None
    return delong.difference(found, 0, 1)


def _right(candidate: Candidate) -> Flags:
    """Whether the decision is the label; of a multi-label model, about any finding."""
    of, decision = candidate.predictions, candidate.decision
    if of.task == "multilabel":
        return np.asarray(decision.flagged(of) == of.positives)
    return np.asarray(decision.labels(of) == of.labels.argmax(axis=1))


def mcnemar(right: Flags, right_before: Flags, patients: NDArray[np.str_]) -> McNemar:
    """McNemar's exact test, in which a patient's images change sides together.

    Were both models as good, each patient's balance of discordant images would be as
    likely the other way round. With one image a patient that is the binomial test on
    the discordant images; with several, images of one patient are not taken for
    independent. The distribution is summed up exactly.

    Args:
        right: (images,), the other model decides rightly.
        right_before: (images,), the reference does.
        patients: (images,).
    """
    gained, lost = right & ~right_before, right_before & ~right
    _, patient_of = np.unique(patients, return_inverse=True)
    balance = np.bincount(patient_of, gained.astype(int) - lost.astype(int))
    steps = np.abs(balance[balance != 0]).astype(np.int64)
    chance = np.ones(1)
    for step in steps.tolist():
        either = np.zeros(len(chance) + 2 * step)
        either[: len(chance)] += chance / 2
        either[2 * step :] += chance / 2
        chance = either
    sums = np.arange(len(chance)) - len(chance) // 2
    extreme = np.abs(sums) >= abs(round(balance.sum()))
    return McNemar(
        only_other=int(gained.sum()),
        only_reference=int(lost.sum()),
        p_value=min(float(chance[extreme].sum()), 1.0),
    )


def reclassification(
    positives: Flags, flagged: Flags, flagged_before: Flags
) -> Reclassification:
    """How decisions change, for images with a finding and for the others."""
    gained, lost = flagged & ~flagged_before, flagged_before & ~flagged
    return Reclassification(
        findings=int(positives.sum()),
        findings_gained=int((gained & positives).sum()),
        findings_lost=int((lost & positives).sum()),
        others=int((~positives).sum()),
        alarms_gained=int((gained & ~positives).sum()),
        alarms_lost=int((lost & ~positives).sum()),
    )
