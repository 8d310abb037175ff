"""Rows of earlier runs → rows of this one, decided on anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam

from beam_pipeline import runs, tables, write
from beam_pipeline.decide import Policy, decide_again
from beam_pipeline.known import Carried, Earlier, KnownFile, by_study
from beam_pipeline.records import Outcome
from beam_pipeline.runs import Run, Segment
from beam_pipeline.studies import Instance

_Group = tuple[tuple[str, int], Iterable[Any]]


@dataclass
class Carry(beam.PTransform):
    """`Carried` → `Segment`s, in which each has its row. No file is opened."""

    run: Run
    policy: Policy

    def expand(self, carried: beam.PCollection[Carried]) -> beam.PCollection[Segment]:
        return (
            carried
            | "ByRowGroup" >> beam.WithKeys(_row_group)
            | "GroupRows" >> beam.GroupByKey()
            | "CarryRows" >> beam.Map(carry, self.run, self.policy)
        )


@dataclass
class EarlierInstances(beam.PTransform):
    """`Instance`s → those of the same studies that were listed on earlier nights only.

    A study whose images arrive over several nights has all of them.
    """

    known: beam.PCollection[KnownFile]
    policy: Policy

    def expand(self, now: beam.PCollection[Instance]) -> beam.PCollection[Instance]:
        listed = now | "UriByStudy" >> beam.FlatMap(_uri_by_study)
        before = self.known | "EarlierByStudy" >> beam.FlatMap(by_study)
        return (
            {"now": listed, "before": before}
            | "MeetByStudy" >> beam.CoGroupByKey()
            | "OnlyEarlier" >> beam.FlatMapTuple(_only_earlier)
            | "EarlierByRowGroup" >> beam.WithKeys(_row_group)
            | "GroupEarlier" >> beam.GroupByKey()
            | "EarlierRows" >> beam.FlatMap(instances, self.policy)
        )


def _uri_by_study(instance: Instance) -> Iterator[tuple[str, str]]:
    if instance.study_instance_uid is not None:
        yield instance.study_instance_uid, instance.source_uri


def _only_earlier(_: str, found: Mapping[str, Iterable[Any]]) -> Iterable[Earlier]:
    listed = set(found["now"])
    newest: dict[str, Earlier] = {}
    for earlier in sorted(found["before"] if listed else (), key=_started):
        if earlier.source_uri not in listed:
            newest[earlier.source_uri] = earlier
    return newest.values()


def _started(earlier: Earlier) -> str:
    return earlier.started


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


def instances(group: _Group, policy: Policy) -> Iterator[Instance]:
    """The rows of one row group that belong to studies of this run."""
    for earlier, row in _taken(group):
        outcome = decide_again(row, policy)
        yield Instance.of(outcome, earlier.place.path, earlier.place.row)


def _taken(group: _Group) -> Iterator[tuple[Any, Outcome]]:
    (path, number), elements = group
    wanted = sorted(elements, key=_row)
    rows = runs.row_group(path, number).take([_row(each) for each in wanted])
    return zip(wanted, tables.outcomes(rows), strict=True)


def _row(element: Carried | Earlier) -> int:
    return element.place.row
