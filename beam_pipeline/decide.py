"""Probabilities → score, label and decision."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from beam_pipeline import calibration as calibrations
from beam_pipeline.calibration import SiteCalibration
from beam_pipeline.errors import Failure, Flag, NotScored, Unreadable
from beam_pipeline.images import eligibility
from beam_pipeline.images.eligibility import Rules
from beam_pipeline.manifest import Manifest, OperatingPoint
from beam_pipeline.pseudonyms import Pseudonyms
from beam_pipeline.records import Basis, Outcome, Status


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a run decides, and what every row of it says about its origin.

    Attributes:
        manifest: of the model that scored.
        model_digest: of the same.
        operating_point: the name of the thresholds; None where a number was given.
        thresholds: one for the score; for a multi-label model, one for each class.
        abstain: a score in [low, high) is too near to call; None for no such band.
        run_id: of this run.
        rules: of which those about the outlier score are asked here.
        pseudonyms: what replaces identifiers; None for nothing.
        calibration: a site's, in the place of the model's own; None for the model's.
        calibration_digest: of the file that it came from.
    """

    manifest: Manifest
    model_digest: str
    operating_point: str | None
    thresholds: tuple[float, ...]
    abstain: tuple[float, float] | None
    run_id: str | None
    rules: Rules
    pseudonyms: Pseudonyms | None = None
    calibration: SiteCalibration | None = None
    calibration_digest: str | None = None

    @property
    def basis(self) -> Basis:
        """What rows rest on besides the decision, which can be taken anew."""
        rules = repr(self.rules)
        if self.pseudonyms is None:
            digest = hashlib.sha256(rules.encode()).hexdigest()
            return Basis(model=self.model_digest, rules=digest)
        key = self.pseudonyms.key_id
        return Basis(
            model=self.model_digest,
            rules=self.pseudonyms.of_rules(rules),
            pseudonyms=f"{key}:deidentify" if self.pseudonyms.deidentify else key,
        )

    def abstains(self, score: float | None) -> bool:
        """Whether a score lies in the band that is too near to call."""
        if score is None or self.abstain is None:
            return False
        low, high = self.abstain
        return low <= score < high


def policy(
    manifest: Manifest,
    model_digest: str,
    run_id: str | None,
    *,
    operating_point: str | None = None,
    threshold: float | None = None,
    rules: Rules | None = None,
    pseudonyms: Pseudonyms | None = None,
    calibration: SiteCalibration | None = None,
    calibration_digest: str | None = None,
) -> Policy:
    """The policy of an operating point, or of an explicit threshold.

    The point is the site calibration's where there is one, else the manifest's.

    Raises:
        CalibrationError: the site's calibration is another model's.
        ValueError: an operating point that the model or the site has not.
    """
    if calibration is not None:
        calibration.require_model(manifest, model_digest)
    if threshold is not None:
        name, abstain = None, None
        thresholds = (threshold,) * manifest.decisions
    else:
        name = operating_point or "default"
        point = _point(name, manifest, calibration)
        thresholds, abstain = point.thresholds, point.abstain
    return Policy(
        manifest=manifest,
        model_digest=model_digest,
        operating_point=name,
        thresholds=thresholds,
        abstain=abstain,
        run_id=run_id,
        rules=rules or Rules(()),
        pseudonyms=pseudonyms,
        calibration=calibration,
        calibration_digest=calibration_digest,
    )


def _point(
    name: str, manifest: Manifest, calibration: SiteCalibration | None
) -> OperatingPoint:
    points = (calibration or manifest).operating_points
    if name in points:
        return points[name]
    known = ", ".join(points)
    if calibration is None:
        raise ValueError(
            f"the model {manifest.name} has no operating point {name!r}; "
            f"it has: {known}"
        )
    raise ValueError(
        f"the calibration of {calibration.site} has no operating point {name!r}; it "
        f"has: {known}. The model's own thresholds are for other probabilities and "
        "cannot be chosen with it: give --threshold, or leave --calibration out"
    )


def decide(outcome: Outcome, policy: Policy) -> Outcome:
    """The final row: with score, label and decision where there are probabilities.

    They are what the model gives now, or what it gave an earlier run.

    `positive` is `score >= threshold`. The label is the likeliest finding of a positive
    image and the likeliest other class of a negative one, so that the two never differ.
    A multi-label model has a threshold for each class, any of which makes it positive.
    """
    return _decided(_anonymous(outcome, policy), policy)


def decide_again(row: Outcome, policy: Policy) -> Outcome:
    """The row of an earlier run as one of this run: its scores, decided on anew.

    The rules must be those that the earlier run asked. What the row had learnt from
    others is taken off: they may have changed.
    """
    outlier_flags = eligibility.flags_of(policy.rules, eligibility.OUTLIER_SCORE)
    learnt = {Flag.DUPLICATE, Flag.UID_CONFLICT, *outlier_flags}
    undecided = replace(
        row,
        flags=tuple(flag for flag in row.flags if flag not in learnt),
        duplicate_of=None,
        carried_from=row.carried_from or row.run_id,
        probabilities=_uncalibrated(row, policy),
        **_UNDECIDED,
    )
    return _decided(undecided, policy)


# What a decision says; one that is taken anew may say nothing.
_UNDECIDED: dict[str, Any] = dict.fromkeys(
    (
        "score",
        "label",
        "labels",
        "threshold",
        "operating_point",
        "positive",
        "abstained",
        "calibration",
    )
)


def _uncalibrated(row: Outcome, policy: Policy) -> tuple[float, ...] | None:
    """The probabilities that the model gave, before any site's temperature."""
    if row.calibration is None or row.logits is None:
        return row.probabilities
    manifest = policy.manifest
    found = calibrations.probabilities(
        row.logits, manifest.calibration.temperature, manifest.task
    )
    return tuple(found.astype(np.float32).tolist())


def _decided(outcome: Outcome, policy: Policy) -> Outcome:
    manifest = policy.manifest
    stamped = replace(
        outcome,
        probabilities=_uncalibrated(outcome, policy),
        model_name=manifest.name,
        model_version=manifest.version,
        model_digest=policy.model_digest,
        preparation=manifest.preparation.name,
        run_id=policy.run_id,
    )
    if stamped.probabilities is None:
        return stamped
    try:
        flags = _outlier_flags(stamped, policy.rules)
        probabilities = _probabilities(stamped, policy)
    except NotScored as error:
        ended = stamped.ended(error)
        return replace(
            ended, probabilities=None, logits=None, spread=None, calibration=None
        )
    scored = replace(
        stamped,
        status=Status.SCORED,
        flags=stamped.flags + flags,
        probabilities=probabilities,
        calibration=policy.calibration_digest,
        operating_point=policy.operating_point,
        scored_at=stamped.scored_at or datetime.now(UTC),
    )
    decide_on = _decide_each if manifest.task == "multilabel" else _decide_one
    decided = decide_on(scored, probabilities, policy)
    return replace(decided, abstained=policy.abstains(decided.score))


def _anonymous(outcome: Outcome, policy: Policy) -> Outcome:
    return policy.pseudonyms.applied(outcome) if policy.pseudonyms else outcome


def _outlier_flags(outcome: Outcome, rules: Rules) -> tuple[str, ...]:
    verdicts = eligibility.check_outlier_score(outcome.outlier_score, rules)
    return eligibility.require(verdicts)


def _probabilities(outcome: Outcome, policy: Policy) -> tuple[float, ...]:
    """The model's probabilities, or those of its logits at the site's temperature."""
    if policy.calibration is None:
        return outcome.probabilities or ()
    found = calibrations.probabilities(
        outcome.logits or (), policy.calibration.temperature, policy.manifest.task
    )
    if not np.isfinite(found).all():
        detail = "the model gave a logit that is not a number"
        raise Unreadable(Failure.NAN_SCORE, detail)
    return tuple(found.tolist())


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
