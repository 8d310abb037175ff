"""A site's labels, and the rows of a run that they are of."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_pipeline.manifest import Manifest

PATH = "path"
STUDY = "study_instance_uid"
KEYS = ("sop_instance_uid", STUDY, "source_uri", PATH)
_LABEL, _PATIENT = "label", "patient"
_COLUMNS = (
    "source_uri",
    "status",
    "duplicate_of",
    "sop_instance_uid",
    STUDY,
    "patient_key",
    "logits",
    "model_digest",
)

Row = Mapping[str, Any]


class LabelsError(ValueError):
    """Labels or a run that cannot be used: what is wrong, and what to bring."""


@dataclass(frozen=True)
class Label:
    """What a site says of an image.

    Attributes:
        truths: for each class of the model, whether it is there.
        patient: whose image it is; None where the labels do not say.
    """

    truths: tuple[bool, ...]
    patient: str | None


@dataclass(frozen=True)
class Labels:
    """A table of labels: the column that says what is labelled, and labels by it."""

    column: str
    by_key: Mapping[str, Label]


@dataclass(frozen=True)
class Labelled:
    """Scored images with the site's answers.

    Attributes:
        logits: float32, (images, classes).
        truths: bool, (images, classes); of classes that exclude each other, one.
        patients: (images,).
        left_out: how many labelled files have no score of their own.
        alone: how many images name neither patient nor study.
    """

    logits: NDArray[np.float32]
    truths: NDArray[np.bool_]
    patients: NDArray[np.str_]
    left_out: int
    alone: int


def finished_run(output: Path, run_id: str | None) -> str:
    """The name of the run in `output`: `run_id`, or the only one that finished.

    Raises:
        LabelsError: it did not finish, or there are none or several.
    """
    finished = sorted(path.parent.name for path in output.glob("runs/*/_SUCCESS"))
    if run_id is not None:
        finished = [name for name in finished if name == run_id]
    if len(finished) == 1:
        return finished[0]
    if finished:
        raise LabelsError(
            f"{output} has {len(finished)} finished runs: {', '.join(finished)}; "
            "choose one with --run_id"
        )
    wanted = "finished run" if run_id is None else f"finished run {run_id}"
    raise LabelsError(
        f"{output} has no {wanted}; give the --output of `python -m beam_pipeline "
        "score`"
    )


def rows(output: Path, run_id: str, model_digest: str) -> list[Row]:
    """The rows of a run, with what labels need of them.

    Raises:
        LabelsError: another model scored it.
    """
    folder = output / "instances" / f"run={run_id}"
    table = pq.read_table(folder, columns=list(_COLUMNS), partitioning=None)
    found: list[Row] = table.to_pylist()
    others = {row["model_digest"] for row in found} - {model_digest}
    if others:
        raise LabelsError(
            f"run {run_id} was scored by {', '.join(map(str, sorted(others)))}; "
            f"--model is {model_digest}. Score the images again with this model"
        )
    return found


def read(path: Path, manifest: Manifest) -> Labels:
    """The labels in the CSV at `path`: one key column, answers, perhaps patients.

    Raises:
        LabelsError: other columns, a value that is no answer, or two answers for one
            key. The message names rows and columns, and no value.
    """
    answers = manifest.classes if manifest.task == "multilabel" else (_LABEL,)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        names = reader.fieldnames or ()
        column = _key_column(names, answers, path)
        by_key: dict[str, Label] = {}
        contradicted = []
        for number, cells in enumerate(reader, 2):
            row = {name: (cells[name] or "").strip() for name in names}
            where = f"{path}, row {number}"
            if not row[column]:
                raise LabelsError(f"{where}: no {column}")
            label = Label(_truths(row, manifest, where), row.get(_PATIENT) or None)
            if by_key.setdefault(row[column], label) != label:
                contradicted.append(number)
    if contradicted:
        raise LabelsError(
            f"{path}: {len(contradicted)} rows contradict one above them of the same "
            f"{column}, first in row {contradicted[0]}; keep the one that is right"
        )
    return Labels(column, by_key)


def _key_column(names: Sequence[str], answers: Sequence[str], path: Path) -> str:
    keys = [name for name in names if name in KEYS]
    unknown = set(names) - {*KEYS, *answers, _PATIENT}
    if len(keys) != 1 or unknown or not set(answers) <= set(names):
        raise LabelsError(
            f"{path} has the columns {', '.join(names) or 'none'}; it needs one of "
            f"{', '.join(KEYS)}, then {', '.join(answers)}, and may have {_PATIENT}"
        )
    return keys[0]


def _truths(row: Mapping[str, str], manifest: Manifest, where: str) -> tuple[bool, ...]:
    if manifest.task == "multilabel":
        for name in manifest.classes:
            if row[name] not in ("0", "1"):
                raise LabelsError(f"{where}: {name} is neither 0 nor 1")
        return tuple(row[name] == "1" for name in manifest.classes)
    if row[_LABEL] not in manifest.classes:
        known = ", ".join(manifest.classes)
        raise LabelsError(f"{where}: its label is none of the classes {known}")
    return tuple(name == row[_LABEL] for name in manifest.classes)


def join(found: Sequence[Row], labels: Labels) -> Labelled:
    """The images with a score of their own that `labels` are of.

    Raises:
        LabelsError: labels of no file, of several files that they do not tell apart,
            or that contradict each other.
    """
    matches: dict[str, list[int]] = {key: [] for key in labels.by_key}
    for index, key in _matches(found, labels):
        matches[key].append(index)
    _require_matched(matches, labels.column)
    labelled: dict[int, Label] = {}
    for key, indices in matches.items():
        own = [index for index in indices if _has_own_score(found[index])]
        if len(own) > 1 and labels.column != STUDY:
            raise LabelsError(
                f"a {labels.column} is that of {len(own)} different images of the "
                "run; give more of the path, or leave it out"
            )
        for index in own:
            label = labels.by_key[key]
            if labelled.setdefault(index, label) != label:
                raise LabelsError("two labels of one file contradict each other")
    files = {index for indices in matches.values() for index in indices}
    return _labelled(found, labelled, left_out=len(files) - len(labelled))


def _matches(found: Sequence[Row], labels: Labels) -> Iterator[tuple[int, str]]:
    """(row, key) of each row that a label is of."""
    depths = {key.count("/") + 1 for key in labels.by_key}
    for index, row in enumerate(found):
        if labels.column == PATH:
            parts = row["source_uri"].split("/")
            keys: Iterable[str] = {"/".join(parts[-depth:]) for depth in depths}
        else:
            keys = (row[labels.column],)
        for key in keys:
            if key in labels.by_key:
                yield index, key


def _require_matched(matches: Mapping[str, list[int]], column: str) -> None:
    unmatched = sum(not indices for indices in matches.values())
    if unmatched:
        raise LabelsError(
            f"{unmatched} of {len(matches)} labels are of no file of the run: is "
            f"{column} what the run has there, and was it run without --deidentify? "
            "Otherwise score these files too, or leave their labels out"
        )


def _has_own_score(row: Row) -> bool:
    return row["status"] == "SCORED" and row["duplicate_of"] is None


def _labelled(
    found: Sequence[Row], labelled: Mapping[int, Label], left_out: int
) -> Labelled:
    known = [
        label.patient or found[index]["patient_key"] or found[index][STUDY]
        for index, label in labelled.items()
    ]
    uris = [found[index]["source_uri"] for index in labelled]
    patients = [name or uri for name, uri in zip(known, uris, strict=True)]
    return Labelled(
        logits=np.array([found[index]["logits"] for index in labelled], np.float32),
        truths=np.array([label.truths for label in labelled.values()], np.bool_),
        patients=np.array(patients, np.str_),
        left_out=left_out,
        alone=known.count(None),
    )
