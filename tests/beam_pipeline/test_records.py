from __future__ import annotations

import dataclasses
import pickle
from datetime import UTC, datetime

import numpy as np
import pytest

from beam_pipeline import records, tables
from beam_pipeline.errors import Failure, Flag, Unreadable
from beam_pipeline.records import Outcome, Ready, Source, Study
from beam_pipeline.tables import INSTANCES, STUDIES

FULL = Outcome(
    source_uri="a.dcm",
    source_modified=datetime(2026, 1, 2, tzinfo=UTC),
    source_etag="e",
    status=records.Status.SCORED,
    flags=(Flag.VIEW_UNKNOWN,),
    score=0.25,
    probabilities=(0.75, 0.25),
    labels=("DARK",),
    positive=False,
)


@pytest.mark.parametrize(("kind", "schema"), [(Outcome, INSTANCES), (Study, STUDIES)])
def test_the_columns_are_the_fields(kind: type, schema: object) -> None:
    assert [field.name for field in dataclasses.fields(kind)] == schema.names


def test_a_row_survives_the_table() -> None:
    [row] = tables.table([FULL], INSTANCES).to_pylist()
    assert row["source_modified"] == FULL.source_modified
    assert row["flags"] == ["VIEW_UNKNOWN"]
    assert row["probabilities"] == [0.75, 0.25]
    assert row["positive"] is False
    assert row["detail"] is None
    assert row["rows"] is None


def test_what_does_not_exist_is_null_and_never_0() -> None:
    ended = Outcome.of(Source("a.dcm")).ended(Unreadable(Failure.EMPTY_FILE, "0 bytes"))
    [row] = tables.table([ended], INSTANCES).to_pylist()
    assert (row["status"], row["reason"]) == ("ERROR", "EMPTY_FILE")
    assert [row[name] for name in ("score", "positive", "threshold", "rows")] == (
        [None] * 4
    )


@pytest.mark.parametrize(
    "record", [Source("a", 1, None), FULL, Ready(FULL, np.zeros((2, 2, 1), np.uint8))]
)
def test_what_crosses_a_stage_can_be_pickled(record: object) -> None:
    restored = pickle.loads(pickle.dumps(record))
    assert type(restored) is type(record)
    assert str(restored) == str(record)
