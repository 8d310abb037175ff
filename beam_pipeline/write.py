"""Outcomes → segments → the published tables, `run.json` and `_SUCCESS`.

Segments are small Parquet files of final rows, written inside the scoring stage. Only
their descriptors travel on; publishing copies their rows into the tables. No file gets
its name before it is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList, AsSingleton

from beam_pipeline import records
from beam_pipeline.records import INSTANCES, STUDIES, Outcome, Study

_LOGGER = logging.getLogger(__name__)

_SEGMENT_ROWS = 10_000
_PART_ROWS = 500_000
_METRICS = "beam_pipeline"

Counts = Counter[tuple[str, str | None]]


class Unbalanced(RuntimeError):
    """Not every listed file has exactly one row: the run must not be published."""


@dataclass(frozen=True)
class Run:
    """Where a run writes, and what it says about itself.

    Attributes:
        output: the folder or bucket prefix of all runs.
        run_id: of this run.
        started: when it did, UTC, ISO 8601.
        about: model, options and versions, for `run.json`.
    """

    output: str
    run_id: str
    started: str
    about: Mapping[str, Any]

    def instances(self, name: str) -> str:
        """The path of a part of the table `instances`."""
        return self._path("instances", f"run={self.run_id}", name)

    def studies(self, name: str) -> str:
        """The path of a part of the table `studies`."""
        return self._path("studies", f"run={self.run_id}", name)

    def record(self, name: str) -> str:
        """The path of `run.json` or `_SUCCESS`."""
        return self._path("runs", self.run_id, name)

    def journal(self, name: str = "") -> str:
        """The path of a segment, or of all of them."""
        return self._path("_journal", self.run_id, name)

    def _path(self, *names: str) -> str:
        return str(FileSystems.join(self.output, *filter(None, names)))


@dataclass(frozen=True)
class Segment:
    """A file of final rows: where it is and what it holds.

    Attributes:
        path: its URI.
        rows: how many.
        counts: rows by (status, reason).
    """

    path: str
    rows: int
    counts: tuple[tuple[tuple[str, str | None], int], ...]


@dataclass(frozen=True)
class Published:
    """A finished file of a table, as `run.json` names it."""

    path: str
    rows: int
    sha256: str


class WriteSegments(beam.DoFn):
    """`Outcome`s → `Segment`s of at most some 10,000 rows, in the run's journal."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def start_bundle(self) -> None:
        self._rows: list[Outcome] = []

    def process(self, outcome: Outcome) -> Iterator[Segment]:
        Metrics.counter(_METRICS, str(outcome.status)).inc()
        self._rows.append(outcome)
        if len(self._rows) >= _SEGMENT_ROWS:
            yield self._write()

    def finish_bundle(self) -> Iterator[Any]:
        if self._rows:
            yield beam.transforms.window.GlobalWindows.windowed_value(self._write())

    def _write(self) -> Segment:
        counts = Counter((str(row.status), row.reason) for row in self._rows)
        # A bundle that is tried again writes again: the name must be a new one.
        path = self._run.journal(f"segment-{uuid.uuid4().hex}.parquet")
        write_bytes(path, _parquet(records.table(self._rows, INSTANCES)))
        segment = Segment(path, len(self._rows), tuple(sorted(counts.items(), key=str)))
        self._rows = []
        return segment


@dataclass
class Publish(beam.PTransform):
    """Segments and studies → the run's tables, `run.json`, and `_SUCCESS` last of all.

    Expands on the PCollections `(segments, studies, listed)`: `Segment`s, whole
    `Study`s, and how many files were listed.
    """

    run: Run

    def expand(self, written: Sequence[beam.PCollection]) -> beam.PCollection[None]:
        segments, studies, listed = written
        count = AsSingleton(listed)
        instance_files = (
            segments
            | "Plan" >> beam.combiners.ToList()
            | "Parts" >> beam.FlatMap(plan_parts)
            | "SpreadParts" >> beam.Reshuffle()
            | "WriteInstances" >> beam.Map(write_instances, self.run)
        )
        study_files = (
            studies
            | "Shard" >> beam.Map(_shard, count)
            | "GroupShards" >> beam.GroupByKey()
            | "WriteStudies" >> beam.Map(write_studies, self.run)
        )
        files = AsList(instance_files), AsList(study_files)
        return (
            segments.pipeline
            | "Once" >> beam.Create([self.run])
            | "Finish" >> beam.Map(finish, AsList(segments), *files, count)
        )


def plan_parts(segments: Sequence[Segment]) -> Iterator[tuple[str, list[Segment]]]:
    """Part names with the segments that go into each, in a fixed order."""
    parts: list[list[Segment]] = [[]]
    for segment in sorted(segments, key=lambda segment: segment.path):
        rows = sum(each.rows for each in parts[-1])
        if rows and rows + segment.rows > _PART_ROWS:
            parts.append([])
        parts[-1].append(segment)
    for index, part in enumerate(parts):
        yield f"part-{index:05d}.parquet", part


def write_instances(part: tuple[str, list[Segment]], run: Run) -> Published:
    """Copy the rows of a part's segments into the table `instances`."""
    name, segments = part
    tables = [INSTANCES.empty_table()]
    tables += [_read_parquet(segment.path) for segment in segments]
    return _publish(run.instances(name), pa.concat_tables(tables), run)


def write_studies(part: tuple[int, Iterable[Study]], run: Run) -> Published:
    """Write one part of the table `studies`, in the order of the UIDs."""
    shard, studies = part
    rows = sorted(studies, key=lambda study: study.study_instance_uid)
    name = f"part-{shard:05d}.parquet"
    return _publish(run.studies(name), records.table(rows, STUDIES), run)


def finish(
    run: Run,
    segments: Sequence[Segment],
    instance_files: Sequence[Published],
    study_files: Sequence[Published],
    listed: int,
) -> None:
    """Hold the counts against each other, write `run.json`, then `_SUCCESS`.

    Raises:
        Unbalanced: a file was lost or doubled on the way; nothing is marked complete.
    """
    rows = sum(file.rows for file in instance_files)
    if rows != listed:
        raise Unbalanced(
            f"{listed} files were listed and {rows} rows were written; "
            f"run {run.run_id} is not complete"
        )
    # Readers of the table need one file, even where no file named a study.
    study_files = study_files or [write_studies((0, []), run)]
    counts: Counts = Counter()
    for segment in segments:
        counts.update(dict(segment.counts))
    document = {
        "run_id": run.run_id,
        "started": run.started,
        "finished": datetime.now(UTC).isoformat(),
        "listed": listed,
        "rows": rows,
        "studies": sum(file.rows for file in study_files),
        "statuses": _by_status(counts),
        "reasons": _by_reason(counts),
        **run.about,
        "files": [asdict(file) for file in (*instance_files, *study_files)],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    write_bytes(run.record("run.json"), text.encode())
    write_bytes(run.record("_SUCCESS"), b"")
    try:
        FileSystems.delete([run.journal()])
    except BeamIOError:
        # The run is complete; what is left in its journal takes room and no more.
        _LOGGER.warning("The journal of run %s could not be deleted", run.run_id)


def probe(output: str) -> None:
    """Try to write below `output`.

    Raises:
        ValueError: it cannot be written, and why.
    """
    path = FileSystems.join(output, "_journal", f"probe-{uuid.uuid4().hex}")
    try:
        write_bytes(path, b"")
        FileSystems.delete([path])
    except (OSError, ValueError, BeamIOError) as error:
        raise ValueError(f"--output {output} cannot be written: {error}") from error


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole file; on a local disk nobody ever sees half of it."""
    # An object in a bucket appears whole, when it is closed; a local file does not.
    local = FileSystems.get_scheme(path) is None
    # Readers of a Parquet folder pass over names that begin with an underscore.
    folder, name = FileSystems.split(path)
    target = FileSystems.join(folder, f"_{name}.partial") if local else path
    with FileSystems.create(
        target, compression_type=CompressionTypes.UNCOMPRESSED
    ) as stream:
        stream.write(data)
    if local:
        FileSystems.rename([target], [path])


def _by_status(counts: Counts) -> dict[str, int]:
    statuses = {str(status): 0 for status in records.Status}
    for (status, _), n in counts.items():
        statuses[status] += n
    return statuses


def _by_reason(counts: Counts) -> dict[str, dict[str, int]]:
    reasons: dict[str, dict[str, int]] = {}
    for (status, reason), n in sorted(counts.items(), key=str):
        if reason is not None:
            reasons.setdefault(status, {})[reason] = n
    return reasons


def _publish(path: str, table: pa.Table, run: Run) -> Published:
    data = _parquet(table)
    write_bytes(path, data)
    relative = path.removeprefix(FileSystems.join(run.output, ""))
    return Published(relative, table.num_rows, hashlib.sha256(data).hexdigest())


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def _read_parquet(path: str) -> pa.Table:
    with FileSystems.open(
        path, compression_type=CompressionTypes.UNCOMPRESSED
    ) as stream:
        return pq.read_table(pa.BufferReader(stream.read()))


def _shard(study: Study, listed: int) -> tuple[int, Study]:
    shards = 1 + listed // _PART_ROWS
    digest = hashlib.sha256(study.study_instance_uid.encode()).digest()
    return int.from_bytes(digest[:8]) % shards, study
