"""Patients → three parts: training, validation and held out."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedGroupKFold

from beam_pipeline.manifest import Part
from trainer.data.dataset import DatasetError, Examples, Strings
from trainer.data.pixels import Images

PARTS = ("training", "validation", "held_out")
# A twentieth of the patients is one fold; so many folds go to each part.
_FOLDS = {"training": 15, "validation": 2, "held_out": 3}
_HALVES = {"validation": 1, "held_out": 1}
_SHOWN = 5


@dataclass(frozen=True)
class Division:
    """How patients are to be divided.

    Attributes:
        seed: of the shuffling.
        fold: which of `folds`, from 1 on, is held out; None for three twentieths.
        folds: how many there are.
        given: whether the parts that the data came in are to be kept.
        least_validation: images with a finding, and without, that the validation part
            must have to choose a threshold on; of several labels with each.
        learned_from: whether there is to be a training part.
    """

    seed: int
    fold: int | None = None
    folds: int = 5
    given: bool = False
    least_validation: int = 30
    learned_from: bool = True


def split(examples: Examples, division: Division) -> Strings:
    """The part of each image: `training`, `validation` or `held_out`, (images,).

    Stratified by class, and all images of a patient in one part.

    Raises:
        DatasetError: a class with too few patients to stand in every part; given parts
            that lack one or share a patient.
    """
    if division.given:
        return _given(examples)
    if division.fold is None:
        shares = _FOLDS if division.learned_from else _HALVES
        return _divided(examples, shares, division.seed)
    parts = _divided(examples, {"training": division.folds}, division.seed, named=True)
    held_out = parts == f"fold {division.fold}"
    rest = examples.chosen(~held_out)
    within = _divided(rest, {"training": 7, "validation": 1}, division.seed)
    result = np.full(len(examples), "held_out", "<U10")
    result[~held_out] = within
    return result


def _given(examples: Examples) -> Strings:
    parts = examples.given_parts
    missing = [part for part in PARTS if part not in parts]
    if missing or "" in parts:
        raise DatasetError(
            f"{examples.root} comes without {' and '.join(missing) or 'a split of all'}"
            "; the folders train, val and test, or a column split, are needed. Without "
            "--split given, patients are divided anew"
        )
    seen: dict[str, str] = {}
    shared = {
        patient
        for patient, part in zip(examples.patients, parts, strict=True)
        if seen.setdefault(patient, part) != part
    }
    if shared:
        raise DatasetError(
            f"{len(shared)} patients stand in more than one part of the given split: a "
            "leak. Without --split given, patients are divided anew"
        )
    return parts


def _divided(
    examples: Examples, shares: dict[str, int], seed: int, *, named: bool = False
) -> Strings:
    folds = sum(shares.values())
    strata = _strata(examples)
    _require_patients(examples, folds)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    names = [part for part, count in shares.items() for _ in range(count)]
    if named:
        names = [f"fold {number}" for number in range(1, folds + 1)]
    parts = np.empty(len(examples), dtype="<U10")
    indices = np.zeros((len(examples), 1))
    with warnings.catch_warnings():
        # Each class has patients enough; a rare combination of them need not.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        found = list(splitter.split(indices, strata, examples.patients))
    for name, (_, rows) in zip(names, found, strict=True):
        parts[rows] = name
    return parts


def _strata(examples: Examples) -> Strings:
    """What is spread evenly: the class, or the rarest of several."""
    commonness = np.where(examples.labels, examples.labels.sum(axis=0), np.inf)
    return np.where(examples.labels.any(axis=1), commonness.argmin(axis=1), -1)


def _require_patients(examples: Examples, folds: int) -> None:
    for index, name in enumerate(examples.classes):
        patients = len(set(examples.patients[examples.labels[:, index]]))
        if patients < folds:
            raise DatasetError(
                f"class {name} has {patients} patients; {folds} or more are needed to "
                "split them into training, validation and held-out patients"
            )


def require_kinds(
    examples: Examples, parts: Strings, findings: tuple[str, ...], learned_from: bool
) -> None:
    """Refuse parts that nothing could be learned from, or told of.

    Args:
        examples: what is divided.
        parts: of each image.
        findings: which classes are.
        learned_from: whether there is to be a training part.

    Raises:
        DatasetError: a class without training images; held-out images with a finding
            alone, or without one alone.
    """
    shown = examples.labels[parts == "training"].any(axis=0)
    if learned_from and not shown.all():
        absent = [n for n, on in zip(examples.classes, shown, strict=True) if not on]
        raise DatasetError(f"no training image shows {', '.join(absent)}")
    indices = [examples.classes.index(finding) for finding in findings]
    positives = examples.labels[parts == "held_out"][:, indices].any(axis=1)
    if positives.all() or not positives.any():
        raise DatasetError(
            f"the {len(positives)} held-out images are of one kind only: images with a "
            "finding and without are needed for any figure"
        )


def require_validation(
    examples: Examples, parts: Strings, findings: tuple[str, ...], least: int
) -> None:
    """Refuse validation images that are too few to choose a threshold on.

    There is one threshold for all findings, or of several labels one for each.

    Raises:
        DatasetError: with the interval that so few would give.
    """
    shown = examples.labels[parts == "validation"]
    if examples.task == "multilabel":
        decided = dict(zip(examples.classes, shown.T, strict=True))
    else:
        indices = [examples.classes.index(finding) for finding in findings]
        decided = {"a finding": shown[:, indices].any(axis=1)}
    counts = {}
    for name, positives in decided.items():
        counts[f"with {name}"] = "sensitivity", int(positives.sum())
        counts[f"without {name}"] = "specificity", int((~positives).sum())
    least = max(least, 1)
    few = {kind: found for kind, found in counts.items() if found[1] < least}
    if few:
        raise DatasetError(_too_few(few, least))


def _too_few(few: dict[str, tuple[str, int]], least: int) -> str:
    told = [
        f"{n} images {kind}: {_doubt(figure, n)}" for kind, (figure, n) in few.items()
    ]
    fewest = min(n for _, n in few.values())
    chance = f", or give --min_validation {fewest} and take that chance"
    return (
        f"the validation patients have {'; '.join(told)}. {least} or more are needed "
        f"to choose a threshold; bring more{chance if fewest else ''}"
    )


def _doubt(figure: str, n: int) -> str:
    if n == 0:
        return f"no {figure} can be found on them"
    interval = binomtest(n, n).proportion_ci(method="wilson")
    return (
        f"a {figure} of {n}/{n} on them could be anything from {interval.low:.1%} to "
        "100 % (Wilson, 95 %)"
    )


def require_no_leak(examples: Examples, parts: Strings, pixels: Images) -> None:
    """Refuse a picture that stands in two parts, under whatever name and encoding.

    Raises:
        DatasetError: which files.
    """
    first: dict[bytes, int] = {}
    leaks = []
    for row in range(len(examples)):
        digest = hashlib.blake2b(pixels[row].tobytes(), digest_size=16).digest()
        other = first.setdefault(digest, row)
        if parts[other] != parts[row]:
            leaks.append(f"{examples.paths[other]} and {examples.paths[row]}")
    if leaks:
        raise DatasetError(
            f"{len(leaks)} pictures stand in two parts of the split: a leak. Remove "
            "one of each pair, or give both the same patient:\n  "
            + "\n  ".join(leaks[:_SHOWN])
        )


def digest(examples: Examples, parts: Strings) -> str:
    """`sha256:…` of which patient is in which part, whatever the order of the files."""
    placed = sorted(set(zip(examples.patients.tolist(), parts.tolist(), strict=True)))
    text = "\n".join(f"{patient}\0{part}" for patient, part in placed)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def describe(examples: Examples, parts: Strings) -> dict[str, Part]:
    """What each part holds, for the manifest."""
    described = {}
    for part in PARTS:
        chosen = parts == part
        counts: Counter[str] = Counter()
        for name, column in zip(examples.classes, examples.labels.T, strict=True):
            counts[name] = int(column[chosen].sum())
        described[part] = Part(
            patients=len(set(examples.patients[chosen])),
            images=int(chosen.sum()),
            images_by_class=dict(counts),
        )
    return described
