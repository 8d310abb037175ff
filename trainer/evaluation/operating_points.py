"""Thresholds, chosen on the scores of validation patients.

`METHODS` is what every manifest gets; `parse` reads any other from a short text. Every
method looks at the same candidates: midpoints between neighbouring scores, so that no
decision hangs on the last digit of one image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from trainer.evaluation import bootstrap

# Smaller than one image in any validation set: it decides between equals alone.
_TIE_BREAK = 1e-9
_RESAMPLES = 2000

Flags = NDArray[np.bool_]
Scores = NDArray[np.float64]
Patients = NDArray[np.str_]


@dataclass(frozen=True)
class Curve:
    """Sensitivity and specificity at every candidate threshold, falling thresholds.

    Attributes:
        thresholds: (candidates,).
        sensitivity: (candidates,), or (resamples, candidates).
        specificity: the same.
        prevalence: the share of positive images, or (resamples, 1).
    """

    thresholds: Scores
    sensitivity: Scores
    specificity: Scores
    prevalence: Scores


# What a method wants most, at each candidate; -inf where it must not be.
Merit = Callable[[Curve], Scores]


def curve(positives: Flags, scores: Scores) -> Curve:
    """The curve of `score >= threshold` over all thresholds that differ."""
    false_positive_rate, sensitivity, _ = roc_curve(
        positives, scores, drop_intermediate=False
    )
    thresholds, first = _candidates(scores)
    return Curve(
        thresholds,
        sensitivity[first:],
        1 - false_positive_rate[first:],
        np.asarray(positives).mean(keepdims=True),
    )


def _candidates(scores: Scores) -> tuple[Scores, int]:
    """Midpoints, falling, and how many of the ROC's points no threshold can make."""
    distinct = np.unique(scores)[::-1]
    above, below = np.append(1.0, distinct), np.append(distinct, 0.0)
    middle = (above + below) / 2
    # Neighbouring floats have no middle; the upper one parts them just as well.
    thresholds = np.where(middle > below, middle, above)
    # No threshold in [0, 1] spares a score of 1.
    first = int(distinct[0] >= 1)
    return thresholds[first:], first


@dataclass(frozen=True)
class Method:
    """An operating point: how it is described, and what it wants most."""

    description: str
    merit: Merit

    def choose(self, points: Curve) -> float:
        """The middle of the widest plateau of best thresholds: least moved by noise.

        Raises:
            ValueError: no threshold is what the method asks for.
        """
        found = _best(points.thresholds, self.merit(points))
        if not np.isfinite(found):
            raise ValueError(f"no threshold has the {self.description}")
        return found


def _best(thresholds: Scores, merit: Scores) -> float:
    highest = merit.max()
    if not highest > -np.inf:
        return np.nan
    best = np.flatnonzero(merit == highest)
    plateaus = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    return float(thresholds[max(plateaus, key=len)].mean())


def balanced_recalls() -> Method:
    """The threshold whose lower recall, of findings or of normals, is the highest."""
    return Method(
        "balanced recalls", lambda at: np.minimum(at.sensitivity, at.specificity)
    )


def youden() -> Method:
    """The highest sensitivity + specificity (Youden 1950)."""
    return Method("highest Youden index", lambda at: at.sensitivity + at.specificity)


def closest_corner() -> Method:
    """The point of the ROC curve that is closest to (0, 1), where nothing is wrong."""
    return Method(
        "least distance of the ROC curve to (0, 1)",
        lambda at: -np.hypot(1 - at.sensitivity, 1 - at.specificity),
    )


def most_sensitive(specificity: float) -> Method:
    """The highest sensitivity among thresholds of at least this specificity.

    Of several, the most specific: where a model parts its validation patients without
    an error, a plain "sensitivity of 0.98" would give a threshold above the default.
    """
    return Method(
        f"highest sensitivity with a specificity of {specificity:.2f} or more",
        lambda at: np.where(
            at.specificity >= specificity,
            at.sensitivity + _TIE_BREAK * at.specificity,
            -np.inf,
        ),
    )


def most_specific(sensitivity: float) -> Method:
    """The highest specificity among thresholds of at least this sensitivity.

    Of several, the most sensitive.
    """
    return Method(
        f"highest specificity with a sensitivity of {sensitivity:.2f} or more",
        lambda at: np.where(
            at.sensitivity >= sensitivity,
            at.specificity + _TIE_BREAK * at.sensitivity,
            -np.inf,
        ),
    )


def least_cost(miss: float, false_alarm: float, prevalence: float | None) -> Method:
    """The lowest expected cost of misses and false alarms an image."""

    def merit(at: Curve) -> Scores:
        share = _prevalence(at, prevalence)
        missed, alarmed = 1 - at.sensitivity, 1 - at.specificity
        return -(share * miss * missed + (1 - share) * false_alarm * alarmed)

    return Method(
        f"lowest cost with misses : false alarms = {miss:g} : {false_alarm:g} "
        f"{_where(prevalence)}",
        merit,
    )


def highest_f_beta(beta: float, prevalence: float | None) -> Method:
    """The highest F-beta: recall counts beta times as much as precision."""

    def merit(at: Curve) -> Scores:
        share = _prevalence(at, prevalence)
        hits = share * at.sensitivity
        alarms = (1 - share) * (1 - at.specificity)
        misses = share - hits
        return (1 + beta**2) * hits / ((1 + beta**2) * hits + beta**2 * misses + alarms)

    return Method(f"highest F{beta:g} {_where(prevalence)}", merit)


def most_sensitive_with_ppv(ppv: float, prevalence: float | None) -> Method:
    """The highest sensitivity among thresholds of at least this PPV."""

    def merit(at: Curve) -> Scores:
        share = _prevalence(at, prevalence)
        hits = share * at.sensitivity
        flagged = hits + (1 - share) * (1 - at.specificity)
        enough = (flagged > 0) & (hits >= ppv * flagged)
        return np.where(enough, at.sensitivity + _TIE_BREAK * at.specificity, -np.inf)

    return Method(
        f"highest sensitivity with a PPV of {ppv:.2f} or more {_where(prevalence)}",
        merit,
    )


def most_alerts(share_flagged: float, prevalence: float | None) -> Method:
    """The highest sensitivity with no larger a share of images flagged."""

    def merit(at: Curve) -> Scores:
        share = _prevalence(at, prevalence)
        flagged = share * at.sensitivity + (1 - share) * (1 - at.specificity)
        # A share such as 20 of 500 is met exactly, whatever the sum rounds to.
        return np.where(
            flagged <= share_flagged * (1 + _TIE_BREAK),
            at.sensitivity + _TIE_BREAK * at.specificity,
            -np.inf,
        )

    return Method(
        f"highest sensitivity with {share_flagged:.4g} of images flagged or fewer "
        f"{_where(prevalence)}",
        merit,
    )


def _prevalence(at: Curve, stated: float | None) -> Scores:
    return at.prevalence if stated is None else np.array([stated])


def _where(prevalence: float | None) -> str:
    if prevalence is None:
        return "at the prevalence of these images"
    return f"at a prevalence of {prevalence:g}"


METHODS: dict[str, Method] = {
    "default": balanced_recalls(),
    "youden": youden(),
    "screening": most_sensitive(0.90),
    "rule_in": most_specific(0.90),
}

_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_AT = rf"(?:@{_NUMBER})?"

_Build = Callable[..., Method]
# The arguments of each are the groups of its pattern; the prevalence is the last.
_TEXTS: dict[str, tuple[str, _Build, str]] = {
    "balanced_recalls": ("", balanced_recalls, ""),
    "youden": ("", youden, ""),
    "closest_corner": ("", closest_corner, ""),
    "sensitivity": (_NUMBER, most_specific, "=0.95"),
    "specificity": (_NUMBER, most_sensitive, "=0.9"),
    "cost": (rf"{_NUMBER}:{_NUMBER}{_AT}", least_cost, "=10:1@0.02"),
    "f_beta": (rf"{_NUMBER}{_AT}", highest_f_beta, "=2"),
    "ppv": (rf"{_NUMBER}{_AT}", most_sensitive_with_ppv, "=0.5@0.02"),
    "alerts": (
        rf"{_NUMBER}/{_NUMBER}{_AT}",
        lambda alerts, images, prevalence: most_alerts(alerts / images, prevalence),
        "=20/500@0.02",
    ),
}
FORMS = tuple(f"{name}{example}" for name, (_, _, example) in _TEXTS.items())


def parse(text: str) -> Method:
    """The method that a short text names: one of `METHODS`, or as in `FORMS`.

    `sensitivity=0.95` has the highest specificity with that sensitivity; `@0.02` is the
    prevalence that costs, PPV, F-beta and alerts are reckoned with.

    Raises:
        ValueError: what is wrong, and what would be right.
    """
    if text in METHODS:
        return METHODS[text]
    name, _, rest = text.partition("=")
    if name not in _TEXTS:
        raise ValueError(
            f"there is no operating point {text!r}; there are: "
            f"{', '.join((*METHODS, *(form for form in FORMS if form not in METHODS)))}"
        )
    pattern, build, example = _TEXTS[name]
    match = re.fullmatch(pattern, rest)
    if match is None or (not pattern and text != name):
        raise ValueError(f"{text!r} is not written as {name}{example}")
    numbers = [None if group is None else float(group) for group in match.groups()]
    _check(text, name, numbers)
    return build(*numbers)


def _check(text: str, name: str, numbers: list[float | None]) -> None:
    share = {"sensitivity", "specificity", "ppv"}
    if name in share and not 0 < (numbers[0] or 0) <= 1:
        raise ValueError(f"{text!r}: {name} is a share above 0, and 1 or less")
    stated = [number for number in numbers if number is not None]
    if name not in share and not all(number > 0 for number in stated):
        raise ValueError(f"{text!r}: every number must be above 0")
    if name == "alerts" and stated[0] > stated[1]:
        raise ValueError(f"{text!r}: there are more alerts than images")
    has_prevalence = _TEXTS[name][0].endswith(_AT)
    if has_prevalence and numbers[-1] is not None and not 0 < numbers[-1] < 1:
        raise ValueError(f"{text!r}: a prevalence is between 0 and 1")


@dataclass(frozen=True)
class Chosen:
    """A threshold, and how far another sample of patients would have moved it.

    Attributes:
        threshold: chosen on all patients.
        low: end of its 95 % interval, a percentile over resampled patients.
        high: the other end.
        method: its description.
        resamples: how many the interval rests on.
    """

    threshold: float
    low: float
    high: float
    method: str
    resamples: int

    @property
    def abstain(self) -> tuple[float, float]:
        """Scores between which other patients would have decided otherwise."""
        return self.low, self.high


def choose(
    positives: Flags, scores: Scores, patients: Patients, method: Method, seed: int
) -> Chosen:
    """The method's threshold, with its 95 % interval over resampled patients.

    Args:
        positives: bool, (images,).
        scores: (images,), in [0, 1].
        patients: (images,), whose image each is.
        method: see `parse`.
        seed: of the resampling.

    Raises:
        ValueError: images of one kind only, or no such threshold.
    """
    if positives.all() or not positives.any():
        raise ValueError(
            f"{len(positives)} images are of one kind only: a threshold needs both"
        )
    threshold = method.choose(curve(positives, scores))
    resamples = bootstrap.draw(patients, _RESAMPLES, seed)
    drawn = np.array(
        [
            _best(points.thresholds, merit)
            for points in _resampled(positives, scores, resamples)
            for merit in method.merit(points)
        ]
    )
    # A resample may have one kind only, or no threshold that the method asks for.
    defined = drawn[np.isfinite(drawn)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (0.0, 1.0)
    return Chosen(
        threshold=threshold,
        low=min(float(low), threshold),
        high=max(float(high), threshold),
        method=method.description,
        resamples=len(defined),
    )


def _resampled(
    positives: Flags, scores: Scores, resamples: bootstrap.Resamples
) -> Iterator[Curve]:
    """The curves of resamples, some at a time, at the candidates of all images."""
    thresholds, first = _candidates(scores)
    order = np.argsort(-scores, kind="stable")
    # How many images, in falling order of scores, lie at or above each candidate.
    above = np.append(0, np.cumsum(np.unique(-scores, return_counts=True)[1]))[first:]
    found = positives[order]
    for weights in resamples.weights():
        ordered = weights[:, order]
        hits, calls = (
            np.concatenate(
                [np.zeros((len(ordered), 1)), np.cumsum(ordered * kind, axis=1)], axis=1
            )
            for kind in (found, ~found)
        )
        both = (hits[:, -1] > 0) & (calls[:, -1] > 0)
        hits, calls = hits[both], calls[both]
        yield Curve(
            thresholds,
            hits[:, above] / hits[:, -1:],
            1 - calls[:, above] / calls[:, -1:],
            hits[:, -1:] / (hits[:, -1:] + calls[:, -1:]),
        )


def choose_each(
    labels: Flags, probabilities: Scores, patients: Patients, method: Method, seed: int
) -> tuple[Chosen, ...]:
    """One threshold for each class of a multi-label model.

    Args:
        labels: bool, (images, classes).
        probabilities: (images, classes).
        patients: (images,).
        method: see `parse`.
        seed: of the resampling.
    """
    return tuple(
        choose(positives, scores, patients, method, seed)
        for positives, scores in zip(labels.T, probabilities.T, strict=True)
    )
