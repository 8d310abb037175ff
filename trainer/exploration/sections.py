"""The sections of the page on a data set: words, figures and tables."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainer.exploration import figures, pictures, survey
from trainer.exploration.concerns import number
from trainer.exploration.explore import Exploration
from trainer.exploration.shortcuts import sizes
from trainer.exploration.survey import Survey
from trainer.exploration.tables import Table, columns, counted, crossed, cut, quartiles

# More would make the page too large to send.
_CLASSES = 7
_ACROSS = 6
_PAIRS = 6
_CAPTION = 24
_ALIKE = {"file": "equal files", "picture": "equal pixels", "near": "nearly equal"}


@dataclass(frozen=True)
class Panel:
    """A figure, as PNG, under the name of its file."""

    name: str
    png: bytes
    caption: str

    @property
    def source(self) -> str:
        """The picture itself, for the page."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Section:
    """A heading, what it says, and what shows it."""

    title: str
    text: str
    blocks: list[Panel | Table]


def sections(found: Exploration) -> Iterator[Section]:
    """All of them; without a readable image only the first two."""
    seen = found.survey
    yield _classes(seen)
    yield _files(seen)
    if not seen.readable.any():
        return
    chosen = _chosen(seen)
    yield _looks(seen, chosen)
    yield _examples(found, chosen)
    if found.shortcuts:
        yield _shortcuts(found)
    yield _duplicates(found)
    yield _patients(found, chosen)
    known = list(columns(seen))
    if known:
        text = "What the table, or the header of a DICOM file, says, by class."
        yield Section("Columns by class", text, list(known))


def _classes(seen: Survey) -> Section:
    blocks: list[Panel | Table] = [_drawn("classes", figures.class_counts(seen))]
    if any(seen.parts):
        parts = [figures.PARTS[part] for part in seen.parts.tolist()]
        blocks.append(counted(seen, "Part", parts))
    return Section("Classes", "", blocks)


def _chosen(seen: Survey) -> tuple[str, ...]:
    """The classes that figures show: those with most images, in order of name."""
    counts = {name: int(seen.of(name).sum()) for name in seen.classes}
    largest = sorted((n for n in counts if counts[n]), key=lambda n: -counts[n])
    return tuple(sorted(largest[:_CLASSES]))


def _drawn(name: str, figure: Figure, caption: str = "") -> Panel:
    return Panel(name, figures.png(figure), caption)


def _files(seen: Survey) -> Section:
    blocks: list[Panel | Table] = [
        crossed(
            seen,
            ("Format", "Bits", "Channels"),
            lambda row: [_kind(seen, row)],
        )
    ]
    if len({(m.width, m.height) for m in seen.measured if not m.reason}) > 1:
        blocks.append(_drawn("sizes", figures.sizes(seen, _chosen(seen))))
        blocks += [quartiles(seen, name, v) for name, v in sizes(seen).items()]
    flags = crossed(
        seen, ("Flag",), lambda row: [(flag,) for flag in seen.measured[row].flags]
    )
    unread = np.flatnonzero(~seen.readable)
    rows = [
        (seen.name(row), seen.measured[row].reason, seen.measured[row].detail)
        for row in unread.tolist()
    ]
    blocks += [flags] if flags.rows else []
    blocks += [cut(("Cannot be read", "Reason", "Detail"), rows)] if rows else []
    text = (
        "Flags and reasons are those of the scoring job. A format, a size or a flag "
        "that one class has and the other has not is a shortcut."
    )
    return Section("Files", text, blocks)


def _kind(seen: Survey, row: int) -> tuple[str, ...]:
    facts = seen.measured[row]
    return facts.format, str(facts.bits or "–"), facts.channels


def _looks(seen: Survey, chosen: tuple[str, ...]) -> Section:
    text = (
        "Pictures as the model gets them, 224 × 224 pixels. Letters, tubes, borders "
        "and corners that show in a mean or in a difference are the same in many "
        "images of one class, and a model will find them."
    )
    band = "Mean over the images of a class; the band holds the middle half of them."
    mean = "Means over all images of a class" + (
        ", and where it is brighter (red) or darker (blue) than the others."
        if len(seen.classes) > 1
        else "."
    )
    return Section(
        "Intensities and mean images",
        text,
        [
            _drawn("intensities", figures.intensities(seen, chosen), band),
            _drawn("means", pictures.averages(seen, chosen), mean),
        ],
    )


def _examples(found: Exploration, chosen: tuple[str, ...]) -> Section:
    text = (
        "Most and least typical: nearest to and farthest from the mean of the class. "
        "Look among the least typical for what does not belong: other views, adults, "
        "inverted or empty films. All are ordered in files.csv by unlike_class."
    )
    return Section(
        "Examples",
        text,
        [
            _drawn(f"examples_{index}", _sheet(found, name))
            for index, name in enumerate(chosen, start=1)
        ],
    )


def _sheet(found: Exploration, name: str) -> Figure:
    rows = np.flatnonzero(found.survey.of(name))
    order = rows[np.argsort(found.unlike_class[rows], kind="stable")]
    few = np.random.default_rng(0).permutation(rows)[:_ACROSS]
    chosen = {
        f"{name}: most typical": order[:_ACROSS],
        f"{name}: at random": few,
        f"{name}: least typical": order[::-1][:_ACROSS],
    }
    return pictures.contact_sheet(
        [(title, _captioned(found.survey, some)) for title, some in chosen.items()]
    )


def _captioned(
    seen: Survey, rows: Sequence[int] | NDArray[np.int64]
) -> list[tuple[str, NDArray[np.uint8]]]:
    files = [seen.listing.files[row] for row in rows]
    names = [_short(file.path.stem) for file in files]
    return list(zip(names, survey.pictures(files), strict=True))


def _short(name: str) -> str:
    name = name.encode("utf-8", "replace").decode("utf-8")
    half = _CAPTION // 2
    return name if len(name) <= _CAPTION else f"{name[: half - 1]}…{name[-half:]}"


def _shortcuts(found: Exploration) -> Section:
    text = (
        "How well each measurement alone tells a class from the others (AUC; 0.5 is "
        "chance). None needs a look at the lungs. Above 0.7 ask why: brightness and "
        "contrast may change with the disease; size, compression and corners change "
        "with the machine, the ward or the export, and a model that learns those will "
        "fail elsewhere. Together: a logistic regression, cross-validated by patient."
    )
    rows = [
        (
            clue.measurement,
            clue.finding,
            f"{clue.auc:.3f} ({clue.low:.3f}–{clue.high:.3f})",
            number(clue.median),
            number(clue.median_of_others),
            f"{clue.n:,}",
        )
        for clue in found.shortcuts
    ]
    header = ("Measurement", "Class", "AUC (95 %)", "Median", "Of the others", "n")
    drawn = _drawn("shortcuts", figures.shortcuts(found.shortcuts))
    return Section("Shortcuts", text, [drawn, cut(header, rows)])


def _duplicates(found: Exploration) -> Section:
    seen, pairs = found.survey, found.duplicates.pairs
    text = (
        "Equal files have the same bytes, equal pictures the same pixels once "
        "prepared; nearly equal ones differ in few bits of a perceptual hash. A pair "
        "across a split is a leak; one across a label has a wrong label; one across "
        "patients is one patient under two names, or chance: look."
    )
    blocks: list[Panel | Table] = []
    if (found.duplicates.nearest >= 0).any():
        blocks.append(_drawn("distances", figures.distances(found.duplicates)))
    if pairs:
        rows = [
            (
                _ALIKE[pair.kind],
                seen.name(pair.first),
                seen.name(pair.second),
                str(pair.distance),
                ", ".join(pair.crosses) or "–",
            )
            for pair in pairs
        ]
        blocks.append(cut(("Pair", "File", "Other", "Bits", "Across"), rows))
        shown = [pair for pair in pairs if pair.kind != "file"] or list(pairs)
        files = [row for pair in shown[:_PAIRS] for row in (pair.first, pair.second)]
        captioned = _captioned(seen, files)
        sheet = pictures.contact_sheet(
            [
                (
                    "Pairs, side by side" if not start else "",
                    captioned[start : start + 6],
                )
                for start in range(0, len(captioned), 6)
            ]
        )
        blocks.append(_drawn("pairs", sheet, "Left and right of each pair in turn."))
    return Section("The same picture more than once", text, blocks)


def _patients(found: Exploration, chosen: tuple[str, ...]) -> Section:
    text = (
        "A model is judged by patients that it has not seen: all images of a patient "
        "stand in one part."
    )
    blocks: list[Panel | Table] = [
        _drawn("patients", figures.images_per_patient(found.survey, chosen))
    ]
    rows = [
        (
            leak.patient,
            leak.across,
            ", ".join(figures.PARTS.get(v, v) for v in leak.values),
            f"{len(leak.rows):,}",
        )
        for leak in sorted(found.leaks, key=lambda leak: leak.across == "label")
    ]
    header = ("Patient", "In more than one", "Which", "Images")
    return Section("Patients", text, blocks + ([cut(header, rows)] if rows else []))
