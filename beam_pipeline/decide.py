"""Probabilities → score, label and decision; images → their study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce

from beam_pipeline.errors import Flag
from beam_pipeline.manifest import Manifest
from beam_pipeline.records import Outcome, Status, Study


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a run decides, and what every row of it says about its origin.

    Attributes:
        manifest: of the model that scored.
        model_digest: of the same.
        operating_point: the name of the thresholds; None where a number was given.
        thresholds: one for the score; for a multi-label model, one for each class.
        run_id: of this run.
    """

    manifest: Manifest
    model_digest: str
    operating_point: str | None
    thresholds: tuple[float, ...]
    run_id: str | None


def policy(
    manifest: Manifest,
    model_digest: str,
    run_id: str | None,
    *,
    operating_point: str | None = None,
    threshold: float | None = None,
) -> Policy:
    """The policy of the manifest's operating point, or of an explicit threshold.

    Raises:
        ValueError: an operating point that the model has not.
    """
    if threshold is not None:
        count = len(manifest.classes) if manifest.task == "multilabel" else 1
        name, thresholds = None, (threshold,) * count
    else:
        name = operating_point or "default"
        if name not in manifest.operating_points:
            known = ", ".join(manifest.operating_points)
            raise ValueError(
                f"the model {manifest.name} has no operating point {name!r}; "
                f"it has: {known}"
            )
        thresholds = manifest.operating_points[name].thresholds
    return Policy(
        manifest=manifest,
        model_digest=model_digest,
        operating_point=name,
        thresholds=thresholds,
        run_id=run_id,
    )


def decide(outcome: Outcome, policy: Policy) -> Outcome:
    """The final row: with score, label and decision where there are probabilities.

    `positive` is `score >= threshold`. The label is the likeliest finding of a positive
    image and the likeliest other class of a negative one, so that the two never differ.
    A multi-label model has a threshold for each class, any of which makes it positive.
    """
    manifest = policy.manifest
    stamped = replace(
        outcome,
        model_name=manifest.name,
        model_version=manifest.version,
        model_digest=policy.model_digest,
        preparation=manifest.preparation.name,
        run_id=policy.run_id,
    )
    if stamped.probabilities is None:
        return stamped
    scored = replace(
        stamped,
        status=Status.SCORED,
        operating_point=policy.operating_point,
        scored_at=datetime.now(UTC),
        flags=(*stamped.flags, *_unlike_training(stamped, manifest)),
    )
    if manifest.task == "multilabel":
        return _decide_each(scored, stamped.probabilities, policy)
    return _decide_one(scored, stamped.probabilities, policy)


def _unlike_training(outcome: Outcome, manifest: Manifest) -> tuple[Flag, ...]:
    if manifest.outlier is None:
        return ()
    score = outcome.outlier_score
    # One that was not a number is like nothing that was seen.
    like = score is not None and score <= manifest.outlier.limit
    return () if like else (Flag.UNLIKE_TRAINING,)


def _decide_one(
    outcome: Outcome, probabilities: tuple[float, ...], policy: Policy
) -> Outcome:
    findings = policy.manifest.finding_indices
    others = [i for i in range(len(probabilities)) if i not in findings]
    score = sum(probabilities[i] for i in findings)
    positive = score >= policy.thresholds[0]
    candidates = findings if positive else others or findings
    label = policy.manifest.classes[max(candidates, key=probabilities.__getitem__)]
    return replace(
        outcome,
        score=score,
        threshold=policy.thresholds[0],
        positive=positive,
        label=label,
        labels=(label,),
    )


def _decide_each(
    outcome: Outcome, probabilities: tuple[float, ...], policy: Policy
) -> Outcome:
    findings = policy.manifest.finding_indices
    above = [p >= t for p, t in zip(probabilities, policy.thresholds, strict=True)]
    return replace(
        outcome,
        score=max(probabilities[i] for i in findings),
        positive=any(above[i] for i in findings),
        labels=tuple(
            name
            for name, is_above in zip(policy.manifest.classes, above, strict=True)
            if is_above
        ),
    )


def study_of(outcome: Outcome) -> Iterator[tuple[str, Study]]:
    """What one image says of its study, by its UID; nothing where it names none."""
    if outcome.study_instance_uid is None:
        return
    yield (
        outcome.study_instance_uid,
        Study(
            study_instance_uid=outcome.study_instance_uid,
            images=1,
            scored=int(outcome.status == Status.SCORED),
            rejected=int(outcome.status == Status.REJECTED),
            errors=int(outcome.status == Status.ERROR),
            score=outcome.score,
            positive=outcome.positive,
            driving_sop_instance_uid=(
                None if outcome.score is None else outcome.sop_instance_uid
            ),
            threshold=outcome.threshold,
            operating_point=outcome.operating_point,
            model_name=outcome.model_name,
            model_version=outcome.model_version,
            model_digest=outcome.model_digest,
            preparation=outcome.preparation,
            run_id=outcome.run_id,
        ),
    )


def merge(studies: Iterable[Study]) -> Study:
    """One study from parts of it, in any order: the top score, with its image."""
    return reduce(_merge_two, studies)


def _merge_two(one: Study, other: Study) -> Study:
    top, rest = sorted((one, other), key=_rank)
    return replace(
        top,
        images=top.images + rest.images,
        scored=top.scored + rest.scored,
        rejected=top.rejected + rest.rejected,
        errors=top.errors + rest.errors,
        # A multi-label image can be positive with a lower score than another's.
        positive=None if top.positive is None else top.positive or bool(rest.positive),
    )


def _rank(study: Study) -> tuple[float, str]:
    """The top score first; the same order whichever part comes first."""
    score = -1.0 if study.score is None else study.score
    return (-score, study.driving_sop_instance_uid or "")
