"""What earlier runs under the same output know of a file, so that none is read twice.

The rows of finished runs, and the journals of runs that never finished, are read by
column. What is known of a row is small, and is joined with the listing on the URI:
nothing is held for all files at once. It travels in great numbers, so as named tuples:
they are the cheapest to encode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from apache_beam.io.filesystems import FileSystems

from beam_pipeline import runs
from beam_pipeline.records import Source, Status
from beam_pipeline.runs import Run

_COLUMNS = [
    "source_uri",
    "source_bytes",
    "source_modified",
    "source_etag",
    "source_digest",
    "metadata_digest",
    "status",
    "carried_from",
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
    """

    path: str
    rows: int
    run_id: str
    started: str
    finished: bool
    same_rules: bool


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

    def is_of(self, source: Source) -> bool:
        """Whether the file is what it was, as far as its listing tells."""
        if (self.size, self.metadata_digest) != (source.size, source.metadata_digest):
            return False
        if self.etag is not None and source.etag is not None:
            return self.etag == source.etag
        return self.modified is not None and self.modified == source.modified


class Carried(NamedTuple):
    """A file whose row is taken from an earlier run, as it is listed now."""

    place: Place
    modified: datetime | None
    etag: str | None


def files_of(run: Run, *, rescore: bool = False) -> tuple[KnownFile, ...]:
    """The files of rows that `run` may take over: those of the same model.

    Of several finished runs over the same inputs only the newest counts: it has the
    rows of those before. With `rescore`, only the journals of runs that were to score
    everything again count.
    """
    finished: dict[str, Mapping[str, Any]] = {}
    interrupted = []
    for document in runs.documents(run.output):
        if not _agrees(document, run):
            continue
        if not document["finished"]:
            if document["options"]["rescore"] or not rescore:
                interrupted.append(document)
        elif not rescore:
            newest = finished.setdefault(document["inputs"], document)
            if document["started"] > newest["started"]:
                finished[document["inputs"]] = document
    return (
        *(file for document in finished.values() for file in _published(document, run)),
        *(file for document in interrupted for file in _journalled(document, run)),
    )


def _agrees(document: Mapping[str, Any], run: Run) -> bool:
    # Versions before 0.4 did not say what their rows rest on.
    if "basis" not in document:
        return False
    # Other rules are asked again, of the header; the rest cannot be undone.
    names = ("model", "pseudonyms")
    return all(document["basis"][n] == getattr(run.basis, n) for n in names)


def _file(document: Mapping[str, Any], run: Run, path: str, rows: int) -> KnownFile:
    return KnownFile(
        path=path,
        rows=rows,
        run_id=document["run_id"],
        started=document["started"],
        finished=document["finished"] is not None,
        same_rules=document["basis"]["rules"] == run.basis.rules,
    )


def _published(document: Mapping[str, Any], run: Run) -> Iterator[KnownFile]:
    for file in document["files"]:
        if file["path"].startswith("instances/"):
            path = FileSystems.join(run.output, *file["path"].split("/"))
            yield _file(document, run, path, file["rows"])


def _journalled(document: Mapping[str, Any], run: Run) -> Iterator[KnownFile]:
    of_document = replace(run, run_id=document["run_id"])
    for path, size in runs.segments(of_document):
        yield _file(document, run, path, size // _BYTES_A_ROW)


# About what a row takes in a segment; only a guess at how many there are rests on it.
_BYTES_A_ROW = 100


def by_uri(file: KnownFile) -> Iterator[tuple[str, Known]]:
    """(URI, what is known) for each row of `file`."""
    for place, row in _rows(file, _COLUMNS):
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
    columns = ["source_uri", "study_instance_uid"]
    for place, row in _rows(file, columns) if file.finished else ():
        if row["study_instance_uid"] is not None:
            earlier = Earlier(place, file.started, row["source_uri"])
            yield row["study_instance_uid"], earlier


def _rows(
    file: KnownFile, columns: list[str]
) -> Iterator[tuple[Place, dict[str, Any]]]:
    for number, group in enumerate(runs.row_groups(file.path, columns)):
        for row, values in enumerate(group.to_pylist()):
            # A version before may not have written all of them.
            yield Place(file.path, number, row), {**dict.fromkeys(columns), **values}


def looked_up(source: Source, known: Iterable[Known]) -> Source | Carried:
    """`source` as it has to be read, or the row that it already has.

    A file that is unchanged and whose rules are not has its digest, so that its header
    is enough to ask the rules again.
    """
    unchanged = [each for each in known if each.is_of(source)]
    final = [each for each in unchanged if each.is_final]
    if final:
        newest = max(final, key=lambda each: (each.started, each.place.path))
        return Carried(newest.place, source.modified, source.etag)
    digests = [each.digest for each in unchanged if each.digest is not None]
    return replace(source, digest=digests[0]) if digests else source
