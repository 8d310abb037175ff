"""Heatmaps: where in a radiograph the probability of a class comes from.

They show where the score comes from, not where disease is; `docs/explanations.md`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beam_pipeline.errors import NotScored
from beam_pipeline.records import Outcome
from trainer.data.dataset import DatasetError, Examples
from trainer.evaluation import report
from trainer.explanation import heatmap_figures, sanity
from trainer.explanation.heatmap_figures import Panel
from trainer.explanation.predict import Reader
from trainer.explanation.radiograph import Radiograph
from trainer.explanation.sanity import Sanity

# A page or a screen shows no more.
_LONGEST_SIDE = 1024
_COLUMNS = (
    "number",
    "file",
    "heatmap",
    "class",
    "probability",
    "score",
    "threshold",
    "label",
    "flags",
    "reason",
)
# What a decision on one class can be, with its label known.
KINDS = {
    (True, True): "true positives",
    (False, True): "false positives",
    (True, False): "false negatives",
    (False, False): "true negatives",
}


@dataclass(frozen=True)
class Explained:
    """A radiograph with the heatmap of one class.

    Attributes:
        seen: the file, as it was read.
        outcome: what the model and the thresholds say of it.
        class_name: which class the heatmap is of.
        probability: of that class.
        heatmap: float32, (height, width), 0 to 1, over the model input.
    """

    seen: Radiograph
    outcome: Outcome
    class_name: str
    probability: float
    heatmap: NDArray[np.float32]


def class_of(reader: Reader, name: str | None, outcome: Outcome) -> str:
    """The class that is asked for, or the likeliest finding.

    Raises:
        ValueError: a class that the model has not.
    """
    manifest = reader.model.manifest
    if name is None:
        chances = outcome.probabilities or ()
        likeliest = max(manifest.finding_indices, key=chances.__getitem__)
        return manifest.classes[likeliest]
    if name not in manifest.classes:
        known = ", ".join(manifest.classes)
        raise ValueError(f"--class {name} is none of the model's classes: {known}")
    return name


def explain(reader: Reader, path: Path, class_name: str | None = None) -> Explained:
    """The heatmap of a file, for a class or for the likeliest finding.

    Raises:
        NotScored: a file that cannot be read or scored.
        ManifestError: the model explains nothing.
        ValueError: a class that the model has not.
    """
    seen = reader.read(path)
    outcome = reader.answer(path, seen)
    name = class_of(reader, class_name, outcome)
    index = reader.model.manifest.classes.index(name)
    heatmap = reader.model.explain(seen.image[np.newaxis], np.array([index], np.int32))[
        0
    ]
    probability = (outcome.probabilities or ())[index]
    return Explained(seen, outcome, name, probability, heatmap)


def panel(of: Explained) -> Panel:
    """The upright picture and the heatmap that lies on it, with square pixels."""
    height, width = of.seen.pixels.shape
    height = round(height * of.seen.pixel_aspect)
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(of.seen.pixels).resize(size, Image.Resampling.LANCZOS)
    on_picture = Image.fromarray(of.heatmap[of.seen.place.slices])
    heatmap = on_picture.resize(size, Image.Resampling.BICUBIC)
    return Panel(np.asarray(picture), np.clip(np.asarray(heatmap), 0, 1))


def caption(of: Explained, reader: Reader) -> list[str]:
    """What the model says, in two lines."""
    policy = reader.policy
    index = policy.manifest.classes.index(of.class_name)
    several = len(policy.thresholds) > 1
    threshold = policy.thresholds[index] if several else policy.thresholds[0]
    score = of.probability if several else of.outcome.score
    named = f" ({policy.operating_point})" if policy.operating_point else ""
    labels = ", ".join(of.outcome.labels or ()) or "nothing above its threshold"
    return [
        f"{of.class_name}   probability {of.probability:.2f}",
        f"score {score:.2f}   threshold {threshold:.2f}{named}   →   {labels}",
    ]


def write_files(
    reader: Reader, files: Sequence[Path], class_name: str | None, output: Path
) -> Iterator[tuple[Path, Explained | NotScored]]:
    """Write `NUMBER-heatmap.png` for each file, and `index.csv`, which names them.

    File names may hold a patient's data: they stand in the index alone.

    Raises:
        ManifestError: the model explains nothing.
        ValueError: a class that the model has not.
    """
    rows = []
    for number, path in enumerate(files, start=1):
        found = _explained(reader, path, class_name)
        name = f"{number:03d}-heatmap.png"
        if isinstance(found, Explained):
            figure = heatmap_figures.one(
                panel(found), caption(found, reader), note=_note(found)
            )
            figure.savefig(output / name)
        rows.append(_row(number, path, name, found))
        yield path, found
    report.write_csv(output / "index.csv", _COLUMNS, rows)


def _explained(
    reader: Reader, path: Path, class_name: str | None
) -> Explained | NotScored:
    try:
        return explain(reader, path, class_name)
    except NotScored as error:
        return error


def _note(of: Explained) -> str:
    if not of.heatmap.any():
        return f"Empty: nothing here raised the score of {of.class_name}."
    return ""


def _row(
    number: int, path: Path, name: str, found: Explained | NotScored
) -> tuple[object, ...]:
    if isinstance(found, NotScored):
        return (number, path, *[""] * 7, f"{found.reason}: {found.detail}")
    outcome = found.outcome
    return (
        number,
        path,
        name,
        found.class_name,
        round(found.probability, 6),
        outcome.score,
        "" if outcome.threshold is None else outcome.threshold,
        "|".join(outcome.labels or ()),
        "|".join(outcome.flags),
        "; ".join(found.seen.objections),
    )


def write_examples(
    reader: Reader, examples: Examples, each: int, seed: int, output: Path
) -> list[Path]:
    """A page for each finding: drawn examples of every kind of right and wrong.

    Args:
        reader: the model and its thresholds.
        examples: labelled files.
        each: how many of each kind.
        seed: of the draw.
        output: the folder for the pages.

    Raises:
        DatasetError: a finding that is no class of the data.
        ManifestError: the model explains nothing.
    """
    pages = []
    findings = reader.model.manifest.findings
    missing = [name for name in findings if name not in examples.classes]
    if missing:
        raise DatasetError(
            f"{examples.root} has the classes {', '.join(examples.classes)}; the "
            f"model's findings are {', '.join(findings)}"
        )
    for name in findings:
        drawn = _drawn(reader, examples, name, each, seed)
        suffix = f"-{findings.index(name) + 1}" if len(findings) > 1 else ""
        page = output / f"gradcam_visualizations{suffix}.png"
        heatmap_figures.page(drawn, name).savefig(page)
        pages.append(page)
    return pages


def _drawn(
    reader: Reader, examples: Examples, name: str, each: int, seed: int
) -> dict[str, list[tuple[Panel, str]]]:
    """Files in a random order, until there are enough of every kind."""
    drawn: dict[str, list[tuple[Panel, str]]] = {kind: [] for kind in KINDS.values()}
    column = examples.classes.index(name)
    for row in np.random.default_rng(seed).permutation(len(examples)):
        if all(len(found) == each for found in drawn.values()):
            break
        path = examples.paths[row]
        try:
            outcome = reader.answer(path, reader.read(path))
        except NotScored:
            continue
        decided = name in (outcome.labels or ())
        kind = KINDS[bool(examples.labels[row, column]), decided]
        if len(drawn[kind]) < each:
            found = explain(reader, path, name)
            drawn[kind].append((panel(found), f"{found.probability:.2f}"))
    return drawn


def check(
    reader: Reader, files: Sequence[Path], class_name: str | None, seed: int
) -> tuple[Sanity, NDArray[np.uint8]]:
    """The sanity check of an exported model on some files, and their model inputs.

    Files that cannot be read are left out.

    Raises:
        ManifestError: the model explains nothing.
        ValueError: no file can be read, or all heatmaps are flat.
    """
    read = []
    for path in files:
        with contextlib.suppress(NotScored):
            read.append(explain(reader, path, class_name))
    if not read:
        raise ValueError("none of the files can be read: nothing to check")
    images = np.stack([each.seen.image for each in read])
    classes = reader.model.manifest.classes
    indices = np.array([classes.index(each.class_name) for each in read], np.int32)
    checked = sanity.check(
        lambda: reader.model.explain(images, indices),
        reader.model.explainer.variables,
        seed,
    )
    return checked, images[..., 0]
