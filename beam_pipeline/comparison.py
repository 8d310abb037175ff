"""Two finished runs in numbers: what each is, and what differs between them.

A is the reference; every difference is B minus A.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipeline import agreement, matching
from beam_pipeline.agreement import Decisions, Differences, Drift, Flags, Scores, Share
from beam_pipeline.finished import FinishedRun
from beam_pipeline.matching import Matching, Rows
from beam_pipeline.records import Status

_DECIDED = ["status", "reason", "score", "positive"]
_INSTANCES = [
    *matching.COLUMNS,
    "study_instance_uid",
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
        studies: rows of the table `studies`.
        positive_studies: of the studies with a score.
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
    studies: int
    positive_studies: Share


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
    """Studies in both runs and in one alone; with a score in both and in one alone."""

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
    instances = [run.table("instances", _INSTANCES) for run in (a, b)]
    studies = [run.table("studies", _STUDIES) for run in (a, b)]
    found = matching.match(*instances)
    pairs = _side_by_side(instances, (found.a, found.b), _DECIDED)
    twice = _scored_twice(pairs)
    other_status = _differ(pairs, "status")
    comparison = Comparison(
        a=_side(a, instances[0], studies[0]),
        b=_side(b, instances[1], studies[1]),
        by_key=found.by_key,
        matched=len(pairs),
        only_a=found.only_a,
        only_b=found.only_b,
        replaced=found.replaced,
        status_changed=agreement.share(int(other_status.sum()), len(pairs)),
        transitions=_transitions(pairs),
        decisions=agreement.decisions(*_flags(twice)),
        differences=agreement.differences(*_both_scores(twice)),
        drift=agreement.drift(*map(_scores, instances)),
        studies=_studies(studies),
        movers=_movers(instances, found, pairs, movers),
    )
    changed = other_status | _differ(pairs, "positive")
    return comparison, _named(instances, found, pairs, np.flatnonzero(changed))


def _side(run: FinishedRun, instances: pa.Table, studies: pa.Table) -> Side:
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
        studies=len(studies),
        positive_studies=_positive(studies),
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


def _side_by_side(
    tables: Sequence[pa.Table], rows: tuple[Rows, Rows], columns: Sequence[str]
) -> pa.Table:
    """Rows of both tables in pairs: `COLUMN_a` and `COLUMN_b` of each column."""
    return pa.table(
        {
            f"{column}_{side}": table[column].take(chosen)
            for column in columns
            for side, table, chosen in zip("ab", tables, rows, strict=True)
        }
    )


def _scored_twice(pairs: pa.Table) -> pa.Table:
    scored = [pc.is_valid(pairs[f"score_{side}"]) for side in "ab"]
    return pairs.filter(pc.and_(*scored)).select(
        ["score_a", "score_b", "positive_a", "positive_b"]
    )


def _flags(pairs: pa.Table) -> tuple[Flags, Flags]:
    return pairs["positive_a"].to_numpy(), pairs["positive_b"].to_numpy()


def _both_scores(pairs: pa.Table) -> tuple[Scores, Scores]:
    return pairs["score_a"].to_numpy(), pairs["score_b"].to_numpy()


def _differ(pairs: pa.Table, column: str) -> Flags:
    """Whether both have a value, and different ones."""
    differ = pc.not_equal(pairs[f"{column}_a"], pairs[f"{column}_b"])
    return np.asarray(differ.fill_null(False).to_numpy())


def _transitions(pairs: pa.Table) -> list[Transition]:
    keys = ["status_a", "reason_a", "status_b", "reason_b"]
    reasons = [pairs[name].fill_null("") for name in ("reason_a", "reason_b")]
    changed = pc.or_(
        pc.not_equal(pairs["status_a"], pairs["status_b"]), pc.not_equal(*reasons)
    )
    found = pairs.filter(changed).group_by(keys).aggregate([([], "count_all")])
    rows = [
        Transition(*row.values())
        for row in found.select([*keys, "count_all"]).to_pylist()
    ]
    return sorted(rows, key=lambda row: (-row.files, str(row)))


def _studies(tables: Sequence[pa.Table]) -> Studies:
    a, b = (table["study_instance_uid"] for table in tables)
    in_b, in_a = matching.places(b, a)
    pairs = _side_by_side(tables, (in_a, in_b), ["score", "positive"])
    twice = _scored_twice(pairs)
    scored_a, scored_b = (
        len(pairs) - pairs[f"score_{side}"].null_count for side in "ab"
    )
    return Studies(
        matched=len(pairs),
        only_a=len(a) - len(pairs),
        only_b=len(b) - len(pairs),
        scored_only_a=scored_a - len(twice),
        scored_only_b=scored_b - len(twice),
        decisions=agreement.decisions(*_flags(twice)),
        differences=agreement.differences(*_both_scores(twice)),
    )


def _movers(
    instances: Sequence[pa.Table], found: Matching, pairs: pa.Table, most: int
) -> list[Mover]:
    difference = pc.abs(pc.subtract(pairs["score_b"], pairs["score_a"]))
    size = difference.fill_null(0).to_numpy()
    rows = np.argsort(-size, kind="stable")[:most]
    names = [field.name for field in dataclasses.fields(Mover)]
    table = _named(instances, found, pairs, rows[size[rows] > 0])
    return [Mover(**row) for row in table.select(names).to_pylist()]


def _named(
    instances: Sequence[pa.Table], found: Matching, pairs: pa.Table, rows: Rows
) -> pa.Table:
    """Some of the pairs, with what names their files."""
    chosen = found.a[rows], found.b[rows]
    uris = _side_by_side(instances, chosen, ["source_uri"])
    names = {
        name: pc.coalesce(
            *(
                table[name].take(each)
                for table, each in zip(instances, chosen, strict=True)
            )
        )
        for name in ("source_digest", "study_instance_uid", "sop_instance_uid")
    }
    decided = pairs.take(rows)
    for name, column in names.items():
        uris = uris.append_column(name, column)
    for name in decided.column_names:
        uris = uris.append_column(name, decided[name])
    return uris
