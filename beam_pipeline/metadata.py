"""What a table or a path says of files that have no header: PNG and JPEG.

A table (CSV or Parquet) has a column `path` and any of the others in `COLUMNS`. A path
is absolute, a URI, or relative to the folder that holds the table.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from blake3 import blake3

from beam_pipeline import streamed
from beam_pipeline.images import terms
from beam_pipeline.pseudonyms import Pseudonyms
from beam_pipeline.records import Metadata

PATH = "path"
COLUMNS = tuple(field.name for field in dataclasses.fields(Metadata))
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)+")
_OLDEST = 90.0


class MetadataError(ValueError):
    """A table or pattern that cannot be used: where, and what was expected."""


@dataclass(frozen=True)
class PathPattern:
    """A regular expression with groups that are named like `COLUMNS`.

    Raises:
        MetadataError: no expression, or a group of another name.
    """

    pattern: str

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise MetadataError(
                f"{self.pattern!r} is no expression: {error}"
            ) from error
        unknown = sorted(groups.keys() - set(COLUMNS))
        if unknown or not groups:
            raise MetadataError(
                f"{self.pattern!r} needs groups named like these, and no others: "
                + ", ".join(COLUMNS)
            )

    def of(self, uri: str) -> Metadata | None:
        """What the path of a file says of it; None where the pattern does not match.

        What it says that cannot be is left out: a file's name stops no run.
        """
        match = re.search(self.pattern, uri)
        if match is None:
            return None
        return Metadata(**dict(_possible(match.groupdict())))


def digest(described: Metadata, pseudonyms: Pseudonyms | None) -> str:
    """What changes when `described` does; made with the key, where there is one.

    Without a key nothing of the patient's numbers goes into a row, nor into this.
    """
    if pseudonyms is not None:
        return pseudonyms.of_metadata(described)
    public = replace(described, patient_id=None, accession_number=None)
    return blake3(repr(public).encode()).hexdigest()[:32]


def read(path: str) -> Iterator[tuple[str, Metadata]]:
    """(URI, what the table says of it) for each row of the table at `path`.

    Raises:
        MetadataError: an unknown column, or a value that is none of its kind. The
            message names row and column, and never the value.
    """
    folder = FileSystems.split(path)[0]
    for number, row in enumerate(_rows(path), 2):
        where = f"{path}, row {number}"
        uri = str(row.get(PATH) or "")
        if not uri:
            raise MetadataError(f"{where}: no {PATH}")
        absolute = uri.startswith("/") or "://" in uri
        yield uri if absolute else FileSystems.join(folder, uri), _metadata(row, where)


def check(path: str) -> int:
    """How many rows the table at `path` has, once all of them could be read.

    Raises:
        MetadataError: as `read` does, or the file cannot be opened.
    """
    seen: set[str] = set()
    try:
        for number, (uri, _) in enumerate(read(path), 2):
            if uri in seen:
                raise MetadataError(
                    f"{path}, row {number}: its path stands there twice"
                )
            seen.add(uri)
        return len(seen)
    except (OSError, pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        raise MetadataError(
            f"{path} cannot be read ({type(error).__name__})"
        ) from error


def _rows(path: str) -> Iterator[Mapping[str, Any]]:
    yield from streamed.rows(path, partial(_check_columns, path))


def _check_columns(path: str, names: Sequence[str]) -> None:
    unknown = sorted(set(names) - {PATH, *COLUMNS})
    if unknown or PATH not in names:
        raise MetadataError(
            f"{path} needs a column {PATH!r}, and may have: {', '.join(COLUMNS)}; "
            f"it also has: {', '.join(unknown) or 'none'}"
        )


def _possible(groups: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in _given(groups).items():
        with contextlib.suppress(MetadataError):
            yield name, _value(name, value, "its path")


def _metadata(row: Mapping[str, Any], where: str) -> Metadata:
    return Metadata(**{n: _value(n, v, where) for n, v in _given(row).items()})


def _given(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: row[name]
        for name in COLUMNS
        if row.get(name) is not None and str(row[name]).strip()
    }


def _value(name: str, value: Any, where: str) -> Any:
    text = str(value).strip().upper()
    if name.endswith("_uid"):
        return _required(text, _UID.fullmatch(text), name, where, "a UID")
    if name == "patient_sex":
        return _required(text, text in terms.SEXES, name, where, "M, F or O")
    if name == "patient_age_years":
        years = _number(text)
        return min(_required(years, years >= 0, name, where, "a number"), _OLDEST)
    if name == "modality":
        return terms.known(text, terms.MODALITIES)
    if name in ("body_part", "view_position"):
        return terms.worded(text, ())
    return text


def _required(value: Any, valid: object, name: str, where: str, expected: str) -> Any:
    if not valid:
        raise MetadataError(f"{where}: {name} is not {expected}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
