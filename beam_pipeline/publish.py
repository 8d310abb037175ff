"""Segments → the published tables, `run.json` and `_SUCCESS`.

What a row has to learn from other rows, it learns here: segments are read again, by
column, and only what others need of a row crosses a shuffle.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsList, AsSingleton

from beam_pipeline import lease, packed, records, runs, studies, summary, tables
from beam_pipeline.carry import EarlierInstances
from beam_pipeline.decide import Policy
from beam_pipeline.device import DeviceTime
from beam_pipeline.repeats import Repeated
from beam_pipeline.runs import Published, Run, Segment
from beam_pipeline.studies import Instance, Mark
from beam_pipeline.tables import INSTANCES, STUDIES

_PART_ROWS = 500_000

Counts = Counter[tuple[str, str | None]]


class Unbalanced(RuntimeError):
    """Not every listed file has exactly one row: the run must not be published."""


@dataclass
class Publish(beam.PTransform):
    """Segments → the run's tables, `run.json`, and `_SUCCESS` last of all.

    Expands on the PCollections `(segments, listed, known)`: `Segment`s, how many files
    were listed, and the files of earlier runs.
    """

    run: Run
    policy: Policy

    def expand(self, written: Sequence[beam.PCollection]) -> beam.PCollection[None]:
        segments, listed, known = written
        spread = segments | "SpreadSegments" >> beam.Reshuffle()
        instances = spread | "ReadBack" >> beam.FlatMap(read_instances)
        shared = spread | "Repeated" >> Repeated()
        repeated = _grouped(shared, "Content") | beam.FlatMapTuple(_duplicates)
        contested = _grouped(shared, "SopInstance") | beam.FlatMapTuple(_conflicts)
        marks = (repeated, contested) | "Marks" >> beam.Flatten()
        earlier = instances | "Earlier" >> EarlierInstances(known, self.policy)
        count = AsSingleton(listed)
        instance_files = (
            {"segment": segments | _by("path"), "marks": marks | _by("segment")}
            | "MarksOfSegment" >> beam.CoGroupByKey()
            | "IntoParts" >> beam.Map(_into_part, _plan(segments))
            | "GroupParts" >> beam.GroupByKey()
            | "WriteInstances" >> beam.Map(write_instances, self.run)
        )
        study_files = (
            (instances, earlier)
            | "EveryNight" >> beam.Flatten()
            | "GroupByStudy" >> beam.GroupByKey()
            | "Studies" >> beam.Map(studies_of, count)
            | "GroupShards" >> beam.GroupByKey()
            | "WriteStudies" >> beam.Map(write_studies, self.run)
        )
        files = AsList(instance_files), AsList(study_files)
        return (
            segments.pipeline
            | "Once" >> beam.Create([self.run])
            | "Finish" >> beam.Map(finish, AsList(segments), *files, count)
        )


_KEYS = {
    "Content": "content",
    "SopInstance": "sop_instance_uid",
}


def _grouped(instances: beam.PCollection, name: str) -> beam.PCollection:
    """`instances` by a key that some of them have."""
    return (
        instances
        | f"KeyBy{name}" >> beam.FlatMap(_keyed, _KEYS[name])
        | f"GroupBy{name}" >> beam.GroupByKey()
    )


def _keyed(instance: Instance, attribute: str) -> Iterator[tuple[str, Instance]]:
    key = getattr(instance, attribute)
    if key is not None:
        yield key, instance


def _duplicates(_: str, instances: Iterable[Instance]) -> Iterator[Mark]:
    return studies.duplicates(instances)


def _conflicts(_: str, instances: Iterable[Instance]) -> Iterator[Mark]:
    return studies.conflicts(instances)


def _by(attribute: str) -> beam.PTransform:
    return f"By {attribute}" >> beam.WithKeys(_attribute, attribute)


def _attribute(element: Segment | Mark, name: str) -> str:
    return str(getattr(element, name))


def _plan(segments: beam.PCollection) -> AsSingleton:
    return AsSingleton(
        segments | "Plan" >> beam.combiners.ToList() | beam.Map(plan_parts)
    )


def read_instances(segment: Segment) -> Iterator[tuple[int, bytes]]:
    """What a study needs of the rows of a segment that belong to one.

    Packed (Study Instance UID, `Instance`)s, by the shard of the UID.
    """
    shards: defaultdict[int, list[tuple[str, Instance]]] = defaultdict(list)
    table = runs.read_parquet(segment.path, studies.COLUMNS)
    for row, columns in enumerate(table.to_pylist()):
        uid = columns["study_instance_uid"]
        if uid is not None:
            # A study has no use for the place of a row.
            instance = Instance(segment="", row=row, **columns)
            shards[packed.shard(uid)].append((uid, instance))
    for shard, instances in shards.items():
        yield shard, packed.pack(instances)


def studies_of(shard: tuple[int, Iterable[bytes]], listed: int) -> tuple[int, pa.Table]:
    """The studies of a shard, by the part of the table that they go into."""
    number, instances = shard
    by_study: defaultdict[str, list[Instance]] = defaultdict(list)
    for uid, instance in packed.unpack(instances):
        by_study[uid].append(instance)
    found = [studies.study(images) for images in by_study.values()]
    parts = 1 + listed // _PART_ROWS
    return number % parts, packed.pack(found)


def plan_parts(segments: Sequence[Segment]) -> dict[str, str]:
    """The part that each segment goes into, by its path."""
    plan: dict[str, str] = {}
    part, rows = 0, 0
    for segment in sorted(segments, key=lambda segment: segment.path):
        if rows and rows + segment.rows > _PART_ROWS:
            part, rows = part + 1, 0
        rows += segment.rows
        plan[segment.path] = f"part-{part:05d}.parquet"
    return plan


def _into_part(
    entry: tuple[str, Mapping[str, Iterable[Any]]], plan: Mapping[str, str]
) -> tuple[str, tuple[str, list[Mark]]]:
    path, found = entry
    return plan[path], (path, list(found["marks"]))


def write_instances(
    part: tuple[str, Iterable[tuple[str, list[Mark]]]], run: Run
) -> Published:
    """Copy the rows of a part's segments, with their marks, into `instances`."""
    name, segments = part
    found = (marked(runs.read_parquet(path), marks) for path, marks in sorted(segments))
    return _publish(run.instances(name), runs.to_parquet(found, INSTANCES), run)


def marked(table: pa.Table, marks: Iterable[Mark]) -> pa.Table:
    """`table` with the flags and `duplicate_of` of `marks` in its rows."""
    flags = table["flags"].to_pylist()
    originals = table["duplicate_of"].to_pylist()
    order = sorted(
        marks, key=lambda mark: (mark.row, mark.flag, mark.duplicate_of or "")
    )
    for mark in order:
        if mark.flag not in flags[mark.row]:
            flags[mark.row] = [*flags[mark.row], mark.flag]
        originals[mark.row] = originals[mark.row] or mark.duplicate_of
    for name, values in (("flags", flags), ("duplicate_of", originals)):
        field = INSTANCES.field(name)
        column = pa.array(values, field.type)
        table = table.set_column(table.column_names.index(name), field, column)
    return table


def write_studies(part: tuple[int, Iterable[bytes]], run: Run) -> Published:
    """Write one part of the table `studies`, in the order of the UIDs."""
    number, found = part
    rows = packed.unpack(found)
    some = iter(lambda: list(islice(rows, runs.ROW_GROUP_ROWS)), [])
    written = [tables.table(studies, STUDIES) for studies in some]
    table = pa.concat_tables([STUDIES.empty_table(), *written])
    data = runs.to_parquet([table.sort_by("study_instance_uid")], STUDIES)
    return _publish(run.studies(f"part-{number:05d}.parquet"), data, run)


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
        Held: another run has taken the output over.
    """
    rows = sum(file.rows for file in instance_files)
    if rows != listed:
        raise Unbalanced(
            f"{listed} files were listed and {rows} rows were written; "
            f"run {run.run_id} is not complete"
        )
    # Readers of a table need one file, even where it has no row.
    first = "part-00000.parquet"
    instance_files = instance_files or [write_instances((first, []), run)]
    study_files = study_files or [write_studies((0, []), run)]
    counts: Counts = Counter()
    device_time = DeviceTime()
    for segment in segments:
        counts.update(dict(segment.counts))
        device_time += segment.device_time
    finished = datetime.now(UTC)
    document: dict[str, Any] = {
        **run.document,
        "finished": finished.isoformat(),
        "seconds": (finished - datetime.fromisoformat(run.started)).total_seconds(),
        "listed": listed,
        "rows": rows,
        "carried": sum(segment.carried for segment in segments),
        "studies": sum(file.rows for file in study_files),
        "statuses": _by_status(counts),
        "reasons": _by_reason(counts),
        "inference": device_time.document,
    }
    document |= {
        "broken_limits": summary.broken_limits(document),
        "files": [asdict(file) for file in (*instance_files, *study_files)],
    }
    lease.require(run)
    _delete_others(run, {file.path for file in (*instance_files, *study_files)})
    _require_files(run, instance_files, study_files)
    runs.write_json(run.record("run.json"), document)
    runs.write_bytes(run.record("_SUCCESS"), f"{run.run_id}\n".encode())


def _require_files(
    run: Run, instance_files: Iterable[Published], study_files: Iterable[Published]
) -> None:
    """Nobody may have taken them away while the others were written."""
    there = {
        _relative(path, run)
        for folder in (run.instances(), run.studies())
        for path in runs.list_files(folder, "*")
    }
    lost = {file.path for file in (*instance_files, *study_files)} - there
    if lost:
        raise Unbalanced(f"{len(lost)} files of run {run.run_id} are gone again")


def _delete_others(run: Run, written: Collection[str]) -> None:
    """Delete what an attempt at this run left that failed, and wrote more parts."""
    for folder in (run.instances(), run.studies()):
        for path in runs.list_files(folder, "*"):
            if _relative(path, run) not in written:
                FileSystems.delete([path])


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


def _publish(path: str, data: bytes, run: Run) -> Published:
    runs.write_bytes(path, data)
    digest = hashlib.sha256(data).hexdigest()
    rows = pq.read_metadata(pa.BufferReader(data)).num_rows
    return Published(_relative(path, run), rows, digest)


def _relative(path: str, run: Run) -> str:
    return path.removeprefix(FileSystems.join(run.output, ""))
