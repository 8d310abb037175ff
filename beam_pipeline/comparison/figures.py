"""Two finished runs in numbers: what each is, and what differs between them.

A is the reference; every difference is B minus A.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipeline.comparison import agreement, matching
from beam_pipeline.comparison.agreement import (
    Decisions,
    Differences,
    Drift,
    Scores,
    Share,
)
from beam_pipeline.comparison.finished import FinishedRun
from beam_pipeline.comparison.pairs import NAMES, Pairs
from beam_pipeline.records import Status

_DECIDED = ["status", "reason", "score", "positive"]
_INSTANCES = [
    *matching.COLUMNS,
    *set(NAMES).difference(matching.COLUMNS),
    *_DECIDED,
    "flags",
    "carried_from",
]
_STUDIES = ["study_instance_uid", "score", "positive"]


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes:
        run: `OUTPUT/runs/ID`.
        finished: when, ISO 8601.
        seconds: how long it took.
        model: what `run.json` says of it: name, version, digest, operating point,
            thresholds.
        calibration: the same of a site's calibration; None for the model's own.
        pseudonyms: the key, and whether rows are de-identified; None without a key.
        files: rows.
        carried: of these, taken along from an earlier run.
        reasons: rows by status and reason; there is none where there is a score.
        flags: rows by flag.
        positive: of the files with a score.
        quantiles: of the scores, at `agreement.QUANTILES`; None where there is none.
    """

    run: str
    finished: str
    seconds: float
    model: Mapping[str, Any]
    calibration: Mapping[str, Any] | None
    pseudonyms: Mapping[str, Any] | None
    files: int
    carried: int
    reasons: Mapping[str, Mapping[str, int]]
    flags: Mapping[str, int]
    positive: Share
    quantiles: list[float] | None


@dataclass(frozen=True)
class Transition:
    """Files whose status or reason is another in B than in A."""

    status_a: str
    reason_a: str | None
    status_b: str
    reason_b: str | None
    files: int


@dataclass(frozen=True)
class Studies:
    """Studies in both runs and in one alone; with a score in both and in one alone.

    `positive_a` and `positive_b` are of all studies of a run that have a score.
    """

    positive_a: Share
    positive_b: Share
    matched: int
    only_a: int
    only_b: int
    scored_only_a: int
    scored_only_b: int
    decisions: Decisions
    differences: Differences | None


@dataclass(frozen=True)
class Mover:
    """A file whose score differs, by what names it."""

    source_uri_a: str
    source_uri_b: str
    source_digest: str | None
    study_instance_uid: str | None
    sop_instance_uid: str | None
    score_a: float
    score_b: float
    positive_a: bool
    positive_b: bool


@dataclass(frozen=True)
class Comparison:
    """Run B against run A.

    Attributes:
        a: the reference.
        b: the other.
        by_key: pairs of rows that each key found.
        matched: all pairs.
        only_a: files of A alone.
        only_b: files of B alone.
        replaced: paths in both with other content.
        status_changed: of the pairs, those with another status.
        transitions: those with another status or reason, the most frequent first.
        decisions: of the pairs with two scores.
        differences: of the same; None where there are none.
        drift: of all scores; None where a run has none.
        studies: the same of studies.
        movers: the largest differences first.
    """

    a: Side
    b: Side
    by_key: Mapping[str, int]
    matched: int
    only_a: int
    only_b: int
    replaced: int
    status_changed: Share
    transitions: list[Transition]
    decisions: Decisions
    differences: Differences | None
    drift: Drift | None
    studies: Studies
    movers: list[Mover]


def compare(a: FinishedRun, b: FinishedRun, movers: int) -> tuple[Comparison, pa.Table]:
    """Every figure, and the rows whose status or decision changed.

    Args:
        a: the reference.
        b: the other.
        movers: how many of the largest differences to name.

    Raises:
        ValueError: a table that cannot be read.
    """
    # One kind of table after the other: both at once are much memory.
    studies = _studies(a.table("studies", _STUDIES), b.table("studies", _STUDIES))
    instances = [run.table("instances", _INSTANCES) for run in (a, b)]
    found = matching.match(instances[0], instances[1])
    pairs = Pairs(instances[0], instances[1], found.a, found.b, _DECIDED)
    other_status = pairs.differ("status")
    comparison = Comparison(
        a=_side(a, instances[0]),
        b=_side(b, instances[1]),
        by_key=found.by_key,
        matched=len(pairs),
        only_a=found.only_a,
        only_b=found.only_b,
        replaced=found.replaced,
        status_changed=agreement.share(int(other_status.sum()), len(pairs)),
        transitions=_transitions(pairs.table),
        decisions=agreement.decisions(*pairs.positive()),
        differences=agreement.differences(*pairs.scores()),
        drift=agreement.drift(*map(_scores, instances)),
        studies=studies,
        movers=_movers(pairs, movers),
    )
    changed = other_status | pairs.differ("positive")
    return comparison, pairs.named(np.flatnonzero(changed))


def _side(run: FinishedRun, instances: pa.Table) -> Side:
    scores = _scores(instances)
    return Side(
        run=run.path,
        finished=run.finished.isoformat(),
        seconds=run.seconds,
        model=run.document.get("model", {}),
        calibration=run.document.get("calibration"),
        pseudonyms=run.document.get("pseudonyms"),
        files=len(instances),
        carried=len(instances) - instances["carried_from"].null_count,
        reasons=_reasons(instances),
        flags=_counts(pc.list_flatten(instances["flags"])),
        positive=_positive(instances),
        quantiles=agreement.quantiles(scores),
    )


def _reasons(instances: pa.Table) -> dict[str, dict[str, int]]:
    return {
        str(status): _counts(
            instances["reason"].filter(pc.equal(instances["status"], status))
        )
        for status in Status
    }


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    """How often each value occurs, the most frequent first; "" for null."""
    found = pc.value_counts(values.fill_null("")).to_pylist()
    ordered = sorted(found, key=lambda each: (-each["counts"], each["values"]))
    return {each["values"]: each["counts"] for each in ordered}


def _positive(table: pa.Table) -> Share:
    scored = len(table) - table["score"].null_count
    return agreement.share(pc.sum(table["positive"]).as_py() or 0, scored)


def _scores(table: pa.Table) -> Scores:
    return np.asarray(table["score"].drop_null().to_numpy())


def _transitions(pairs: pa.Table) -> list[Transition]:
    keys = ["status_a", "reason_a", "status_b", "reason_b"]
    reasons = [pairs[name].fill_null("") for name in ("reason_a", "reason_b")]
    changed = pc.or_(
        pc.not_equal(pairs["status_a"], pairs["status_b"]), pc.not_equal(*reasons)
    )
    found = pairs.filter(changed).group_by(keys).aggregate([([], "count_all")])
    # By its name: which column comes first is Arrow's affair.
    rows = found.rename_columns({"count_all": "files"}).to_pylist()
    return sorted((Transition(**row) for row in rows), key=_rank)


def _rank(row: Transition) -> tuple[int, str]:
    return -row.files, repr(row)


def _studies(a: pa.Table, b: pa.Table) -> Studies:
    in_b, in_a = matching.places(b["study_instance_uid"], a["study_instance_uid"])
    pairs = Pairs(a, b, in_a, in_b, ["score", "positive"])
    decisions = agreement.decisions(*pairs.positive())
    scored_a, scored_b = pairs.scored()
    return Studies(
        positive_a=_positive(a),
        positive_b=_positive(b),
        matched=len(pairs),
        only_a=len(a) - len(pairs),
        only_b=len(b) - len(pairs),
        scored_only_a=scored_a - decisions.changed.of,
        scored_only_b=scored_b - decisions.changed.of,
        decisions=decisions,
        differences=agreement.differences(*pairs.scores()),
    )


def _movers(pairs: Pairs, most: int) -> list[Mover]:
    apart = pairs.apart()
    rows = np.argsort(-apart, kind="stable")[:most]
    names = [field.name for field in dataclasses.fields(Mover)]
    table = pairs.named(rows[apart[rows] > 0])
    return [Mover(**row) for row in table.select(names).to_pylist()]
