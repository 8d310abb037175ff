"""Labelled files → examples: a folder for each class, or a table in CSV.

Nothing here reads pixels: `pixels.py` does, and `split.py` divides the patients.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

Labels = NDArray[np.bool_]
Strings = NDArray[np.str_]
Task = Literal["binary", "multiclass", "multilabel"]

# The folders of a data set that comes divided, and the columns of one that says so.
SPLITS = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "validation": "validation",
    "test": "held_out",
    "held_out": "held_out",
}
# What a table may say of a patient or an image beside its label.
COLUMNS = ("age", "sex", "view", "site", "subtype")
# The file names of Kermany 2018: person1_virus_2, IM-0115-0001, NORMAL2-IM-1427-0001.
PATIENT_PATTERN = r"^(person\d+|(?:NORMAL2-)?IM-\d+)"
_SHOWN = 5


class DatasetError(ValueError):
    """A data set that cannot be used: what is wrong, and where."""


@dataclass(frozen=True)
class Examples:
    """Labelled files, before their pixels are read.

    Attributes:
        task: `multilabel` where an image may have several classes or none.
        classes: class names, sorted.
        root: the folder that paths are shown relative to.
        paths: one for each image.
        labels: bool, (images, classes). One class an image, but for multi-label.
        patients: str, (images,); images of one patient stay in one part.
        columns: what else is known, str, (images,) each, "" where it is not:
            some of `COLUMNS`.
        given_parts: the part that each image came in, "" where none; (images,).
        duplicates: how many byte-identical files were left out.
        files_without_patient: how many names the patient pattern did not match.
    """

    task: Task
    classes: tuple[str, ...]
    root: Path
    paths: tuple[Path, ...]
    labels: Labels
    patients: Strings
    duplicates: int
    files_without_patient: int
    given_parts: Strings
    columns: Mapping[str, Strings] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def names(self) -> list[str]:
        """Each path as it stands below `root`."""
        return [
            path.relative_to(self.root).as_posix()
            if path.is_relative_to(self.root)
            else str(path)
            for path in self.paths
        ]

    def chosen(self, rows: NDArray[np.bool_]) -> Examples:
        """The examples where `rows`, bool, (images,), is true."""
        kept = np.flatnonzero(rows)
        return replace(
            self,
            paths=tuple(self.paths[row] for row in kept),
            labels=self.labels[rows],
            patients=self.patients[rows],
            given_parts=self.given_parts[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
        )


@dataclass(frozen=True)
class File:
    """One labelled file, as a folder or a table names it.

    Attributes:
        labels: one, but for multi-label.
        patient: whose image it is.
        patient_known: whether a table or the file name said so.
        part: the part that it came in, "" where none.
        columns: some of `COLUMNS`.
    """

    path: Path
    labels: tuple[str, ...]
    patient: str
    patient_known: bool
    part: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """All labelled files of a data set, whether they contradict each other or not.

    Attributes:
        root: the folder that paths are shown relative to.
        is_multilabel: whether a file may have several labels, or none.
    """

    files: tuple[File, ...]
    root: Path
    is_multilabel: bool


def find(data: Path, patient_pattern: str) -> Examples:
    """The labelled images of `data`, see `listed`, checked.

    Byte-identical copies are left out, so that none can stand in two parts.

    Args:
        data: the folder or the table.
        patient_pattern: finds the patient in a file name, in its last group.

    Raises:
        DatasetError: no images, one class, a file that is not there, one image under
            two labels, or a pattern that is no regular expression.
    """
    found = listed(data, patient_pattern)
    return _examples(list(found.files), found.root, found.is_multilabel)


def listed(data: Path, patient_pattern: str) -> Listing:
    """The labelled files of `data`: a folder, or a table in CSV.

    A folder holds `CLASS/…` or `SPLIT/CLASS/…`: the folder next to a file names its
    class. A table has the columns `path` (relative to the table), `label`, or `labels`
    with names parted by `|` for several classes or none; and may have `patient`,
    `split`, and any of `COLUMNS`.

    Args:
        data: the folder or the table.
        patient_pattern: finds the patient in a file name, in its last group.

    Raises:
        DatasetError: a table that cannot be understood, a file of it that is not there,
            or a pattern that is no regular expression.
    """
    try:
        pattern = re.compile(patient_pattern)
    except re.error as error:
        raise DatasetError(
            f"{patient_pattern!r} is no regular expression: {error}"
        ) from error
    if data.is_file():
        files, is_multilabel = _in_table(data, pattern)
        return Listing(tuple(files), data.parent, is_multilabel)
    return Listing(tuple(_in_folders(data, pattern)), data, False)


def _examples(files: list[File], root: Path, is_multilabel: bool) -> Examples:
    classes = tuple(sorted({label for file in files for label in file.labels}))
    if len(classes) < (1 if is_multilabel else 2):
        raise DatasetError(
            f"{root} has {len(classes)} classes with files in them "
            f"({', '.join(classes) or 'none'}); two or more are needed, as in "
            f"{root}/NORMAL/… and {root}/PNEUMONIA/…, or in the column label of a CSV"
        )
    kept = _without_copies(files)
    labels = np.array([[name in file.labels for name in classes] for file in kept])
    known = {name for file in kept for name in file.columns if file.columns[name]}
    single: Task = "binary" if len(classes) == 2 else "multiclass"
    return Examples(
        task="multilabel" if is_multilabel else single,
        classes=classes,
        root=root,
        paths=tuple(file.path for file in kept),
        labels=labels,
        patients=np.array([file.patient for file in kept]),
        duplicates=len(files) - len(kept),
        files_without_patient=sum(not file.patient_known for file in kept),
        given_parts=np.array([file.part for file in kept]),
        columns={
            name: np.array([file.columns.get(name, "") for file in kept])
            for name in COLUMNS
            if name in known
        },
    )


def _in_folders(data: Path, pattern: re.Pattern[str]) -> list[File]:
    files = sorted(path for path in data.rglob("*") if _is_visible(path))
    return [_in_class_folder(path, pattern) for path in files]


def _is_visible(path: Path) -> bool:
    # .DS_Store and its like are in many folders, and are nobody's image.
    return path.is_file() and not path.name.startswith(".")


def _in_class_folder(path: Path, pattern: re.Pattern[str]) -> File:
    label, split = path.parent.name, path.parent.parent.name
    key, found = _patient(path, pattern)
    # Numbers restart in each class, and in a test folder: other children, same name.
    pool = "test" if split == "test" else ""
    return File(
        path=path,
        labels=(label,),
        patient=f"{pool}/{label}/{key}",
        patient_known=found,
        part=SPLITS.get(split, ""),
    )


def _patient(path: Path, pattern: re.Pattern[str]) -> tuple[str, bool]:
    match = pattern.search(path.name)
    return (match[match.lastindex or 0], True) if match else (path.stem, False)


def _in_table(table: Path, pattern: re.Pattern[str]) -> tuple[list[File], bool]:
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        header = reader.fieldnames or []
        label_column = next((n for n in ("label", "labels") if n in header), None)
        if "path" not in header or label_column is None:
            raise DatasetError(
                f"{table} has the columns {', '.join(header) or 'none'}; path, and "
                "label (or labels, parted by |), are needed"
            )
        rows = list(reader)
    is_multilabel = label_column == "labels"
    files = [
        _in_row(row, table, f"{table}, line {line}", pattern, is_multilabel)
        for line, row in enumerate(rows, start=2)
    ]
    return files, is_multilabel


def _in_row(
    row: Mapping[str, str | None],
    table: Path,
    where: str,
    pattern: re.Pattern[str],
    is_multilabel: bool,
) -> File:
    values = {name: (value or "").strip() for name, value in row.items() if name}
    path = table.parent / values["path"]
    if not values["path"] or not path.is_file():
        raise DatasetError(f"{where}: there is no file {values['path'] or '(empty)'}")
    named = values["labels"].split("|") if is_multilabel else [values["label"]]
    labels = tuple(label.strip() for label in named if label.strip())
    if not labels and not is_multilabel:
        raise DatasetError(f"{where}: the label is empty")
    part = values.get("split", "")
    if part and part not in SPLITS:
        raise DatasetError(f"{where}: split is {part!r}, not {', '.join(SPLITS)}")
    key, found = _patient(path, pattern)
    return File(
        path=path,
        labels=labels,
        patient=values.get("patient") or key,
        patient_known=bool(values.get("patient")) or found,
        part=SPLITS.get(part, ""),
        columns={name: values.get(name, "") for name in COLUMNS},
    )


def _without_copies(files: Iterable[File]) -> list[File]:
    first: dict[bytes, File] = {}
    for file in files:
        other = first.setdefault(blake3(file.path.read_bytes()).digest(), file)
        if set(other.labels) != set(file.labels):
            raise DatasetError(
                f"{other.path} and {file.path} are the same image under two labels; "
                "keep the one that is right"
            )
        if other.part != file.part:
            raise DatasetError(
                f"{other.path} and {file.path} are the same image in two splits: a "
                "leak; remove one"
            )
    return list(first.values())
