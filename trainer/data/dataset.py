"""Labelled files → examples: a folder for each class, or a table in CSV.

Nothing here reads pixels: `pixels.py` does, and `split.py` divides the patients.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
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
_SHOWN = 5


# The file names of Kermany 2018: person1_virus_2, IM-0115-0001, NORMAL2-IM-1427-0001.
PATIENT_PATTERN = r"^(person\d+|(?:NORMAL2-)?IM-\d+)"


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

    def labels_digest(self) -> str:
        """`sha256:…` of what each file shows, whatever their order."""
        shown = (
            f"{name}\0{''.join('01'[on] for on in row)}"
            for name, row in zip(self.names(), self.labels.astype(int), strict=True)
        )
        digest = hashlib.sha256("\n".join(sorted(shown)).encode())
        return f"sha256:{digest.hexdigest()}"

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
class Naming:
    """Regular expressions that find things in a file name, in their last group.

    Attributes:
        patient: whose image it is; a file without is its own patient.
        label: its class, in lower case or upper, where the folder does not say it.
        subtype: what is known beyond the class.
    """

    patient: str = PATIENT_PATTERN
    label: str | None = None
    subtype: str | None = None

    def __post_init__(self) -> None:
        for pattern in (self.patient, self.label, self.subtype):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise DatasetError(
                    f"{pattern!r} is no regular expression: {error}"
                ) from error


def _found(pattern: str | None, path: Path) -> str | None:
    match = re.search(pattern, path.name) if pattern else None
    return match[match.lastindex or 0] if match else None


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


def find(data: Path, naming: Naming) -> Examples:
    """The labelled images of `data`, see `listed`, checked.

    Byte-identical copies are left out, so that none can stand in two parts.

    Raises:
        DatasetError: no images, one class, a file that is not there, or one image under
            two labels.
    """
    found = listed(data, naming)
    _require_files(found.files, data)
    return _examples(list(found.files), found.root, found.is_multilabel)


def listed(data: Path, naming: Naming) -> Listing:
    """The labelled files of `data`: a folder, or a table in CSV.

    A folder holds `CLASS/…` or `SPLIT/CLASS/…`: the folder next to a file names its
    class. A table has the columns `path` (relative to the table), `label`, or `labels`
    with names parted by `|` for several classes or none; and may have `patient`,
    `split`, and any of `COLUMNS`. A file that it names need not be there.

    Args:
        data: the folder or the table.
        naming: what file names say.

    Raises:
        DatasetError: a table that cannot be understood.
    """
    if data.is_file():
        files, is_multilabel = _in_table(data, naming)
        return Listing(tuple(files), data.parent, is_multilabel)
    return Listing(tuple(_in_folders(data, naming)), data, False)


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


def _in_folders(data: Path, naming: Naming) -> list[File]:
    files = sorted(path for path in data.rglob("*") if _is_visible(path))
    return [_in_class_folder(path, naming) for path in files]


def _is_visible(path: Path) -> bool:
    # .DS_Store and its like are in many folders, and are nobody's image.
    return path.is_file() and not path.name.startswith(".")


def _in_class_folder(path: Path, naming: Naming) -> File:
    folder, split = path.parent.name, path.parent.parent.name
    label = _found(naming.label, path)
    patient = _found(naming.patient, path)
    # Numbers restart in each class, and in a test folder: other children, same name.
    pool = "test" if split == "test" else ""
    return File(
        path=path,
        labels=(label.upper() if label else folder,),
        patient=f"{pool}/{folder}/{patient or path.stem}",
        patient_known=patient is not None,
        part=SPLITS.get(split, ""),
        columns={"subtype": _found(naming.subtype, path) or ""},
    )


def _in_table(table: Path, naming: Naming) -> tuple[list[File], bool]:
    header, rows = _rows(table)
    label_column = next((n for n in ("label", "labels") if n in header), None)
    if "path" not in header or label_column is None:
        raise DatasetError(
            f"{table} has the columns {', '.join(header) or 'none'}; path, and "
            "label (or labels, parted by |), are needed"
        )
    is_multilabel = label_column == "labels"
    files = [
        _in_row(row, table, f"{table}, line {line}", naming, is_multilabel)
        for line, row in enumerate(rows, start=2)
    ]
    return files, is_multilabel


def _rows(table: Path) -> tuple[Sequence[str], list[dict[str, str | None]]]:
    """The names of the columns, and the rows by them."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            return reader.fieldnames or [], list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table} is no CSV in UTF-8: {error}") from error


def _in_row(
    row: Mapping[str, str | None],
    table: Path,
    where: str,
    naming: Naming,
    is_multilabel: bool,
) -> File:
    values = {name: (value or "").strip() for name, value in row.items() if name}
    path = table.parent / values["path"]
    if not values["path"]:
        raise DatasetError(f"{where}: the path is empty")
    named = values["labels"].split("|") if is_multilabel else [values["label"]]
    labels = tuple(label.strip() for label in named if label.strip())
    if not labels and not is_multilabel:
        raise DatasetError(f"{where}: the label is empty")
    part = values.get("split", "")
    if part and part not in SPLITS:
        raise DatasetError(f"{where}: split is {part!r}, not {', '.join(SPLITS)}")
    patient = values.get("patient") or _found(naming.patient, path)
    subtype = _found(naming.subtype, path) or ""
    return File(
        path=path,
        labels=labels,
        patient=patient or path.stem,
        patient_known=patient is not None,
        part=SPLITS.get(part, ""),
        columns={"subtype": subtype, **{n: values[n] for n in COLUMNS if n in values}},
    )


def _require_files(files: Sequence[File], table: Path) -> None:
    missing = [str(file.path) for file in files if not file.path.is_file()]
    if missing:
        raise DatasetError(
            f"{table} names files that are not there: {len(missing)}; expected is each "
            "path relative to the table:\n  " + "\n  ".join(missing[:_SHOWN])
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
