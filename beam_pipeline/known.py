"""What earlier runs under the same output know of a file, so that none is read twice.

The rows of finished runs, and the journals of runs that never finished, are read by
column. What is known of a row is small, and is joined with the listing on the URI:
nothing is held for all files at once. It travels in great numbers, so as named tuples:
they are the cheapest to encode.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_pipeline import runs
from beam_pipeline.records import Source, Status
from beam_pipeline.runs import Run

_LOGGER = logging.getLogger(__name__)

_COLUMNS = [
    "source_uri",
    "source_bytes",
    "source_modified",
    "source_etag",
    "source_digest",
    "metadata_digest",
    "status",
]


@dataclass(frozen=True)
class KnownFile:
    """A file of rows that an earlier run left.

    Attributes:
        path: its URI.
        rows: how many it holds, or about how many.
        run_id: of the run.
        started: when that run did.
        finished: whether it is part of a finished run; else a segment of a journal.
        same_rules: whether that run asked the rules that this one asks.
        is_current: whether its rows may be taken over; else only studies ask for them.
        superseded_by: files of the newer run over the same inputs, where there is one.
    """

    path: str
    rows: int
    run_id: str
    started: str
    finished: bool
    same_rules: bool
    is_current: bool = True
    superseded_by: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where a row is: the row of a row group of a Parquet file."""

    path: str
    row_group: int
    row: int


class Known(NamedTuple):
    """What is known of a file from one row of an earlier run.

    Attributes:
        place: of the row.
        started: when its run did.
        size: of the file then, in bytes.
        modified: when it last was, then.
        etag: what its bucket called its content.
        metadata_digest: of what somebody else knew of it.
        digest: of its content; None where it was not read whole.
        is_final: whether the row stands for this run too; an ERROR is tried again.
    """

    place: Place
    started: str
    size: int | None
    modified: datetime | None
    etag: str | None
    metadata_digest: str | None
    digest: str | None
    is_final: bool

    def is_of(self, source: Source, etag: str | None) -> bool:
        """Whether the file is what it was, as far as its listing tells."""
        if (self.size, self.metadata_digest) != (source.size, source.metadata_digest):
            return False
        if self.etag is not None and etag is not None:
            return self.etag == etag
        return self.modified is not None and self.modified == source.modified


class Carried(NamedTuple):
    """A file whose row is taken from an earlier run, as it is listed now."""

    place: Place
    modified: datetime | None
    etag: str | None


def files_of(run: Run, *, rescore: bool = False) -> tuple[KnownFile, ...]:
    """The files of rows that earlier runs left, of the same model.

    Of several finished runs over the same inputs only the rows of the newest are taken
    over: it has those of all files that are still there. With `rescore`, only those of
    runs that were to score everything again and never finished. Studies ask all
    finished runs.
    """
    finished: list[KnownFile] = []
    newest: dict[str, tuple[str, ...]] = {}
    journals: list[KnownFile] = []
    documents = [each for each in runs.documents(run.output) if _agrees(each, run)]
    for document in sorted(documents, key=_started, reverse=True):
        if document["finished"]:
            files = list(_published(document, run))
            newer = newest.get(document["inputs"], ())
            newest.setdefault(document["inputs"], tuple(file.path for file in files))
            current = not rescore and not newer
            finished += [
                replace(file, is_current=current, superseded_by=newer) for file in files
            ]
        elif not rescore or document.get("options", {}).get("rescore"):
            journals += _journalled(document, run)
    return (*finished, *journals)


def _started(document: Mapping[str, Any]) -> str:
    return str(document["started"])


def _agrees(document: Mapping[str, Any], run: Run) -> bool:
    # Versions before 0.4 did not say what their rows rest on.
    said = {"basis", "inputs", "finished"} <= document.keys()
    if not said or not isinstance(document["basis"], dict):
        return False
    # Other rules are asked again, of the header; the rest cannot be undone.
    names = ("model", "pseudonyms")
    return all(document["basis"].get(n) == getattr(run.basis, n) for n in names)


def _file(document: Mapping[str, Any], run: Run, path: str, rows: int) -> KnownFile:
    return KnownFile(
        path=path,
        rows=rows,
        run_id=document["run_id"],
        started=document["started"],
        finished=document["finished"] is not None,
        same_rules=document["basis"].get("rules") == run.basis.rules,
    )


def _published(document: Mapping[str, Any], run: Run) -> Iterator[KnownFile]:
    for file in document.get("files", ()):
        if file["path"].startswith("instances/"):
            path = FileSystems.join(run.output, *file["path"].split("/"))
            yield _file(document, run, path, file["rows"])


def _journalled(document: Mapping[str, Any], run: Run) -> Iterator[KnownFile]:
    of_document = replace(run, run_id=document["run_id"])
    for path, size in runs.segments(of_document):
        yield _file(document, run, path, size // _BYTES_A_ROW)


# About what a row takes in a segment; only a guess at how many there are rests on it.
_BYTES_A_ROW = 100


def whole(file: KnownFile) -> Iterator[KnownFile]:
    """`file`, if all of it can be read: a disk that failed must not stop every night.

    Its files are scored again otherwise.
    """
    try:
        for _ in runs.row_groups(file.path):
            pass
    except (OSError, BeamIOError, pa.ArrowException) as error:
        _LOGGER.error(
            "A file of run %s cannot be read (%s); what it holds is scored again: %s",
            file.run_id,
            type(error).__name__,
            FileSystems.split(file.path)[1],
        )
        return
    yield file


def by_uri(file: KnownFile) -> Iterator[tuple[str, Known]]:
    """(URI, what is known) for each row of `file`."""
    for place, row in _rows(file, _COLUMNS) if file.is_current else ():
        if file.same_rules or row["source_digest"] is not None:
            yield (
                row["source_uri"],
                Known(
                    place=place,
                    started=file.started,
                    size=row["source_bytes"],
                    modified=row["source_modified"],
                    etag=row["source_etag"],
                    metadata_digest=row["metadata_digest"],
                    digest=_digest(row["source_digest"]),
                    is_final=file.same_rules and row["status"] != Status.ERROR,
                ),
            )


def _digest(written: str | None) -> str | None:
    """A digest that a reader of the file would find too; none that a key made."""
    return written if (written or "").startswith("blake3:") else None


class Earlier(NamedTuple):
    """A row of an earlier night, as its study knows it."""

    place: Place
    started: str
    source_uri: str


def by_study(file: KnownFile) -> Iterator[tuple[str, Earlier]]:
    """(Study Instance UID, row) for each row of `file` that has one."""
    # What was never published is nobody's result yet.
    if not file.finished:
        return
    newer = _uris(file.superseded_by)
    for place, row in _rows(file, ["source_uri", "study_instance_uid"]):
        uri, study = row["source_uri"], row["study_instance_uid"]
        # The newer run has a row for it too.
        if study is not None and uri not in newer:
            yield study, Earlier(place, file.started, uri)


@lru_cache(maxsize=1)
def _uris(paths: tuple[str, ...]) -> frozenset[str]:
    """The URIs of all rows in some files; none where they cannot be read."""
    found: set[str] = set()
    for path in paths:
        with suppress(OSError, BeamIOError, pa.ArrowException):
            for group in runs.row_groups(path, ["source_uri"]):
                found.update(group["source_uri"].to_pylist())
    return frozenset(found)


def _rows(
    file: KnownFile, columns: list[str]
) -> Iterator[tuple[Place, dict[str, Any]]]:
    for number, group in enumerate(runs.row_groups(file.path, columns)):
        for row, values in enumerate(group.to_pylist()):
            # A version before may not have written all of them.
            yield Place(file.path, number, row), {**dict.fromkeys(columns), **values}


def looked_up(
    source: Source, known: Iterable[Known], etag: str | None = None
) -> Source | Carried:
    """`source` as it has to be read, or the row that it already has.

    `etag` is that of the file as rows have it. A file that is unchanged and whose rules
    are not has its digest, so that its header is enough to ask the rules again.
    """
    unchanged = [each for each in known if each.is_of(source, etag)]
    final = [each for each in unchanged if each.is_final]
    if final:
        newest = max(final, key=lambda each: (each.started, each.place.path))
        return Carried(newest.place, source.modified, etag)
    digests = [each.digest for each in unchanged if each.digest is not None]
    return replace(source, digest=digests[0]) if digests else source
