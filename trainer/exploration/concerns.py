"""What is wrong with a data set, or may be, in plain words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest

from trainer.exploration.duplicates import Duplicates
from trainer.exploration.shortcuts import Shortcut, Source
from trainer.exploration.survey import Survey

Level = Literal["mend", "check", "know"]
LEVELS: dict[Level, str] = {
    "mend": "Mend before training",
    "check": "Look at this",
    "know": "Good to know",
}
# With fewer even a recall of all of them has an interval wider than 5 points.
_FEW_TO_MEASURE = 73
_FEW_PATIENTS = 50
_IMBALANCE = 1.5
_WHY: dict[Source, str] = {
    "together": "None of these looks at the lungs; a model that does no better may "
    "have learnt nothing else.",
    "file": "Size, shape and compression come from the machine, the ward or the export "
    "more than from disease, and resized images keep traces of them.",
    "picture": "Disease can do that, and so can another machine.",
    "stated": "The patients of the classes differ, and a model can learn that.",
}


@dataclass(frozen=True)
class Concern:
    """One thing that whoever trains on the data should know.

    Attributes:
        level: `mend` what makes results wrong or is refused, `check` what may,
            `know` what limits what can be said.
        text: a sentence or two, without file names.
    """

    level: Level
    text: str


@dataclass(frozen=True)
class Leak:
    """A patient who stands in more than one part, or under more than one label.

    Attributes:
        patient: the key, as `dataset` makes it.
        across: `split` or `label`.
        values: the parts or labels.
        rows: the patient's files.
    """

    patient: str
    across: Literal["split", "label"]
    values: tuple[str, ...]
    rows: tuple[int, ...]


def leaks(survey: Survey) -> list[Leak]:
    """Patients in two parts and under two labels, of those whose patient is known."""
    rows_of = defaultdict(list)
    for row, file in enumerate(survey.listing.files):
        if file.patient_known:
            rows_of[file.patient].append(row)
    found = []
    for patient, rows in rows_of.items():
        files = [survey.listing.files[row] for row in rows]
        parts = sorted({file.part for file in files})
        labels = sorted({" + ".join(file.labels) or "none" for file in files})
        if len(parts) > 1:
            found.append(Leak(patient, "split", tuple(parts), tuple(rows)))
        if len(labels) > 1:
            found.append(Leak(patient, "label", tuple(labels), tuple(rows)))
    return found


def concerns(
    survey: Survey, duplicates: Duplicates, leaked: list[Leak], clues: list[Shortcut]
) -> list[Concern]:
    """All of them, the worst first."""
    found = [
        *_unreadable(survey),
        *_copies(duplicates),
        *_near(duplicates),
        *_leaks(leaked),
        *_classes(survey),
        *_measurable(survey),
        *_shortcuts(clues),
        *_sizes(survey),
        *_flags(survey),
        *_unknown_patients(survey),
    ]
    order = list(LEVELS)
    return sorted(found, key=lambda concern: order.index(concern.level))


def _unreadable(survey: Survey) -> Iterator[Concern]:
    reasons = Counter(m.reason for m in survey.measured if m.reason)
    if reasons:
        named = ", ".join(f"{reason} {n:,}" for reason, n in reasons.most_common())
        yield Concern(
            "mend",
            f"{_count(reasons.total(), 'file')} cannot be read ({named}). Training "
            "stops at such a file: mend or remove them.",
        )


def _copies(duplicates: Duplicates) -> Iterator[Concern]:
    copies = duplicates.of("file", "picture")
    across_labels = [pair for pair in copies if "label" in pair.crosses]
    across_splits = [pair for pair in copies if "split" in pair.crosses]
    plain = [p for p in copies if not {"label", "split"} & set(p.crosses)]
    if across_labels:
        yield Concern(
            "mend",
            f"Two labels for one picture, {_count(len(across_labels), 'time')}. One of "
            "the two is wrong; keep the right one.",
        )
    if across_splits:
        yield Concern(
            "mend",
            f"One picture in two parts, {_count(len(across_splits), 'time')}: a leak, "
            "which makes the model look better than it is. Remove one of each.",
        )
    if plain:
        equal = sum(pair.kind == "file" for pair in plain)
        yield Concern(
            "know",
            f"{_count(len(plain), 'copy', 'copies')} under the same label and in the "
            f"same part, {equal:,} of them equal byte by byte. Training leaves these "
            "out; any other copy counts twice.",
        )


def _near(duplicates: Duplicates) -> Iterator[Concern]:
    near = duplicates.of("near")
    crossing = [p for p in near if p.crosses]
    if crossing:
        ways = Counter(way for pair in crossing for way in pair.crosses)
        named = ", ".join(f"{n:,} across {way}s" for way, n in ways.most_common())
        yield Concern(
            "check",
            f"{_count(len(crossing), 'pair')} of nearly equal pictures that should "
            f"differ: {named}. They may be one exposure saved twice.",
        )
    if len(near) > len(crossing):
        yield Concern(
            "know",
            f"{_count(len(near) - len(crossing), 'pair')} of nearly equal pictures of "
            "the same patient, in the same part and class.",
        )


def _leaks(leaked: list[Leak]) -> Iterator[Concern]:
    splits = [leak for leak in leaked if leak.across == "split"]
    labels = [leak for leak in leaked if leak.across == "label"]
    if splits:
        yield Concern(
            "mend",
            f"{_count(len(splits), 'patient')} with images in two parts of the split: "
            "a model can know them again. Divide by patient.",
        )
    if labels:
        yield Concern(
            "know",
            f"{_count(len(labels), 'patient')} with images under different labels: "
            "right for who fell ill or recovered, wrong for one image read twice.",
        )


def _classes(survey: Survey) -> Iterator[Concern]:
    counts = {name: int(survey.of(name).sum()) for name in survey.classes}
    if not survey.listing.is_multilabel and len(counts) < 2:
        yield Concern(
            "mend",
            f"There is one class only ({', '.join(counts)}); two or more are needed, "
            "as in NORMAL/… and PNEUMONIA/….",
        )
    patients = {n: len(np.unique(survey.patients[survey.of(n)])) for n in counts}
    few = {
        n: f"{n} {count:,}" for n, count in patients.items() if count < _FEW_PATIENTS
    }
    if few:
        yield Concern(
            "check",
            f"Few patients ({', '.join(few.values())}): too few to learn a class from, "
            "and to measure how well.",
        )
    yield from _imbalance(counts, survey)


def _imbalance(counts: dict[str, int], survey: Survey) -> Iterator[Concern]:
    if survey.listing.is_multilabel or len(counts) < 2 or not all(counts.values()):
        return
    largest, smallest = (
        max(counts, key=counts.__getitem__),
        min(counts, key=counts.__getitem__),
    )
    ratio = counts[largest] / counts[smallest]
    if ratio >= _IMBALANCE:
        share = counts[largest] / sum(counts.values())
        yield Concern(
            "check",
            f"{largest} has {ratio:.1f} times as many images as {smallest}: an "
            f"answer that is always {largest} is right {100 * share:.0f} times in 100. "
            "Judge a model by its AUC and the recall of each class, not by accuracy.",
        )


def _measurable(survey: Survey) -> Iterator[Concern]:
    for part, called in (("validation", "validation"), ("held_out", "held-out")):
        counts = {
            name: int((survey.of(name) & (survey.parts == part)).sum())
            for name in survey.classes
        }
        few = {n: count for n, count in counts.items() if 0 < count < _FEW_TO_MEASURE}
        if few:
            least = min(few.values())
            named = ", ".join(f"{count} {name}" for name, count in few.items())
            yield Concern(
                "check",
                f"Few {called} images ({named}): a recall of {least}/{least} could be "
                f"anything from {100 * wilson_low(least):.1f} % to 100 % (Wilson). "
                "Choose no model and no threshold by them.",
            )


def wilson_low(count: int) -> float:
    """The lower end of the 95 % interval of `count` hits in as many (Wilson 1927)."""
    return float(binomtest(count, count).proportion_ci(method="wilson").low)


def _shortcuts(clues: list[Shortcut]) -> Iterator[Concern]:
    groups = defaultdict(list)
    for clue in clues:
        if clue.is_suspicious:
            groups[clue.finding, clue.source].append(clue)
    for (finding, source), some in groups.items():
        named = "; ".join(map(_said, some))
        yield Concern("check", f"{finding} can be told by {named}. {_WHY[source]}")


def _said(clue: Shortcut) -> str:
    rank = f"AUC {clue.auc:.2f}, {clue.low:.2f}–{clue.high:.2f}"
    if clue.source == "together":
        return f"{clue.measurement} ({rank}) in patients not seen before"
    way = "higher" if clue.higher else "lower"
    medians = f"{number(clue.median)} against {number(clue.median_of_others)}"
    return f"{clue.measurement} ({rank}; {way}, median {medians})"


def number(value: float) -> str:
    """Three digits, or all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _sizes(survey: Survey) -> Iterator[Concern]:
    sizes = {(m.width, m.height) for m in survey.measured if not m.reason}
    if len(sizes) == 1 and survey.readable.sum() > 1:
        ((width, height),) = sizes
        yield Concern(
            "know",
            f"Every image is {width} × {height} pixels: they were resized before they "
            "came here. What their size and shape would tell cannot be seen any more.",
        )


def _flags(survey: Survey) -> Iterator[Concern]:
    inverted = sum("SUSPECT_INVERTED" in m.flags for m in survey.measured)
    if inverted:
        yield Concern(
            "check",
            f"{_count(inverted, 'image')} with a border brighter than the middle "
            "(SUSPECT_INVERTED): black and white may be the wrong way round.",
        )


def _unknown_patients(survey: Survey) -> Iterator[Concern]:
    unknown = sum(not file.patient_known for file in survey.listing.files)
    if unknown:
        yield Concern(
            "check",
            f"{_count(unknown, 'file')} without a patient in the name or the table: "
            "each counts as a patient of its own, and leaks between them cannot be "
            "seen. See --patient_pattern.",
        )


def _count(number: int, what: str, plural: str = "") -> str:
    return f"{number:,} {what if number == 1 else plural or what + 's'}"
