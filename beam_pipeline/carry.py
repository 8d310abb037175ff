"""Rows of earlier runs → rows of this one, decided on anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam

from beam_pipeline import runs, tables, write
from beam_pipeline.decide import Policy, decide_again
from beam_pipeline.known import Carried, Earlier, KnownFile, by_study
from beam_pipeline.packed import Pack, PackByShard, pack, unpack
from beam_pipeline.records import Outcome
from beam_pipeline.runs import Run, Segment
from beam_pipeline.studies import Instance

# The path and number of a row group, and packed rows with their places in it.
_Group = tuple[tuple[str, int], Iterable[bytes]]


@dataclass
class Carry(beam.PTransform):
    """`Carried` → `Segment`s, in which each has its row. No file is opened."""

    run: Run
    policy: Policy

    def expand(self, carried: beam.PCollection[Carried]) -> beam.PCollection[Segment]:
        return (
            carried
            | "ByRowGroup" >> beam.WithKeys(_row_group)
            | "Pack" >> beam.ParDo(Pack())
            | "GroupRows" >> beam.GroupByKey()
            | "CarryRows" >> beam.Map(carry, self.run, self.policy)
        )


@dataclass
class EarlierInstances(beam.PTransform):
    """Packed `Instance`s → those of the same studies that only earlier nights listed.

    By the shard of their study, both. A study whose images arrive over several nights
    has all of them.
    """

    known: beam.PCollection[KnownFile]
    policy: Policy

    def expand(self, now: beam.PCollection) -> beam.PCollection:
        before = (
            self.known
            | "EarlierByStudy" >> beam.FlatMap(by_study)
            | "PackEarlier" >> PackByShard()
        )
        return (
            {"now": now | "Listed" >> beam.MapTuple(_listed), "before": before}
            | "MeetByStudy" >> beam.CoGroupByKey()
            | "OnlyEarlier" >> beam.FlatMapTuple(_only_earlier)
            | "EarlierByRowGroup" >> beam.WithKeys(_row_group)
            | "PackRows" >> beam.ParDo(Pack())
            | "GroupEarlier" >> beam.GroupByKey()
            | "EarlierRows" >> beam.FlatMap(instances, self.policy)
            | "PackInstances" >> PackByShard()
        )


def _listed(shard: int, now: bytes) -> tuple[int, bytes]:
    """What must be known of tonight's images to tell which of their study are not."""
    return shard, pack([(study, each.source_uri) for study, each in unpack([now])])


def _only_earlier(_: int, found: Mapping[str, Iterable[bytes]]) -> Iterable[Earlier]:
    now = set(unpack(found["now"]))
    studies = {study for study, _ in now}
    newest: dict[tuple[str, str], Earlier] = {}
    for study, earlier in sorted(unpack(found["before"]), key=_started):
        key = study, earlier.source_uri
        if study in studies and key not in now:
            newest[key] = earlier
    return newest.values()


def _started(keyed: tuple[str, Earlier]) -> str:
    return keyed[1].started


def _row_group(element: Carried | Earlier) -> tuple[str, int]:
    return element.place.path, element.place.row_group


def carry(group: _Group, run: Run, policy: Policy) -> Segment:
    """Write the carried rows of one row group as a segment of `run`."""
    return write.segment(run, list(_carried(group, policy)))


def _carried(group: _Group, policy: Policy) -> Iterator[Outcome]:
    for carried, row in _taken(group):
        # Its time may be another although its ETag says that its bytes are the same.
        listed = replace(
            row, source_modified=carried.modified, source_etag=carried.etag
        )
        yield decide_again(listed, policy)


def instances(group: _Group, policy: Policy) -> Iterator[tuple[str, Instance]]:
    """The rows of one row group that belong to studies of this run, by their study."""
    for earlier, row in _taken(group):
        instance = Instance.of(
            decide_again(row, policy), earlier.place.path, earlier.place.row
        )
        yield instance.study_instance_uid or "", instance


def _taken(group: _Group) -> Iterator[tuple[Any, Outcome]]:
    (path, number), packed = group
    wanted = sorted(unpack(packed), key=_row)
    rows = runs.row_group(path, number).take([_row(each) for each in wanted])
    return zip(wanted, tables.outcomes(rows), strict=True)


def _row(element: Carried | Earlier) -> int:
    return element.place.row
