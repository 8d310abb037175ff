from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from beam_pipeline.comparison import figures, page
from beam_pipeline.comparison.agreement import QUANTILES
from beam_pipeline.comparison.figures import Comparison, Transition
from beam_pipeline.records import Outcome, Status, Study
from tests import finished_runs
from tests.finished_runs import scored, study, unscored

REJECTED, ERROR = Status.REJECTED, Status.ERROR
A = [
    scored("up", 0.1, flags=("VIEW_UNKNOWN", "DUPLICATE")),
    scored("down", 0.9, flags=("VIEW_UNKNOWN",)),
    scored("a little", 0.3),
    scored("the same", 0.6, carried_from="before"),
    unscored("lateral", REJECTED, "LATERAL_VIEW"),
    unscored("broken", ERROR, "EMPTY_FILE"),
    unscored("hand", REJECTED, "BODY_PART"),
    scored("yesterday", 0.2),
]
B = [
    scored("up", 0.7),
    scored("down", 0.45, flags=("VIEW_UNKNOWN",)),
    scored("a little", 0.31),
    scored("the same", 0.6),
    scored("lateral", 0.8),
    unscored("broken", ERROR, "TIMEOUT"),
    scored("hand", 0.2),
    scored("today", 0.3),
    scored("tonight", 0.4),
]


def compared(
    tmp_path: Path,
    a: list[Outcome],
    b: list[Outcome],
    studies: tuple[list[Study], list[Study]] = ([], []),
    movers: int = 10,
) -> tuple[Comparison, pa.Table]:
    return figures.compare(
        finished_runs.write(tmp_path, "a", a, studies[0]),
        finished_runs.write(tmp_path, "b", b, studies[1]),
        movers,
    )


def test_each_run_is_described(tmp_path: Path) -> None:
    a = compared(tmp_path, A, B)[0].a
    assert a.run == f"{tmp_path}/runs/a"
    assert (a.files, a.carried, a.seconds) == (8, 1, 10)
    assert a.model == finished_runs.MODEL
    assert a.reasons == {
        "SCORED": {"": 5},
        "REJECTED": {"BODY_PART": 1, "LATERAL_VIEW": 1},
        "ERROR": {"EMPTY_FILE": 1},
    }
    assert a.flags == {"VIEW_UNKNOWN": 2, "DUPLICATE": 1}
    assert list(a.flags) == ["VIEW_UNKNOWN", "DUPLICATE"]
    assert (a.positive.count, a.positive.of) == (2, 5)
    assert a.quantiles is not None
    assert dict(zip(QUANTILES, a.quantiles, strict=True))[0.5] == 0.3


def test_statuses_and_reasons_that_changed_are_counted(tmp_path: Path) -> None:
    found, _ = compared(tmp_path, A, B)
    assert (found.matched, found.only_a, found.only_b) == (7, 1, 2)
    assert (found.status_changed.count, found.status_changed.of) == (2, 7)
    assert found.transitions == [
        Transition("ERROR", "EMPTY_FILE", "ERROR", "TIMEOUT", 1),
        Transition("REJECTED", "BODY_PART", "SCORED", None, 1),
        Transition("REJECTED", "LATERAL_VIEW", "SCORED", None, 1),
    ]


def test_the_most_frequent_change_comes_first(tmp_path: Path) -> None:
    a = [unscored(f"{i}", REJECTED, "BODY_PART" if i < 3 else "ABC") for i in range(8)]
    found, _ = compared(tmp_path, a, [scored(f"{i}", 0.1) for i in range(8)])
    assert [row.files for row in found.transitions] == [5, 3]


def test_decisions_and_scores_are_of_files_with_two(tmp_path: Path) -> None:
    found, _ = compared(tmp_path, A, B)
    decisions, differences = found.decisions, found.differences
    assert (decisions.gained, decisions.lost) == (1, 1)
    assert (decisions.both_positive, decisions.both_negative) == (1, 1)
    assert differences is not None
    assert (differences.count, differences.equal) == (4, 1)
    assert differences.quantiles[0] == pytest.approx(-0.45)
    assert differences.mean == pytest.approx((0.6 - 0.45 + 0.01) / 4)


def test_the_rows_are_those_whose_status_or_decision_changed(tmp_path: Path) -> None:
    _, rows = compared(tmp_path, A, B)
    found = {row["source_uri_b"]: row for row in rows.to_pylist()}
    assert set(found) == {f"/export/{n}" for n in ("up", "down", "lateral", "hand")}
    assert found["/export/up"] == {
        "source_uri_a": "/export/up",
        "source_uri_b": "/export/up",
        "source_digest": "blake3:up",
        "study_instance_uid": None,
        "sop_instance_uid": "1.2.117.112",
        "status_a": "SCORED",
        "status_b": "SCORED",
        "reason_a": None,
        "reason_b": None,
        "score_a": 0.1,
        "score_b": 0.7,
        "positive_a": False,
        "positive_b": True,
    }
    # What A has not read B has.
    assert found["/export/hand"]["source_digest"] == "blake3:hand"
    assert found["/export/hand"]["score_a"] is None


@pytest.mark.parametrize(("most", "expected"), [(1, ["up"]), (9, ["up", "down", "a"])])
def test_the_largest_differences_are_named(
    tmp_path: Path, most: int, expected: list[str]
) -> None:
    found, _ = compared(tmp_path, A, B, movers=most)
    names = [Path(mover.source_uri_a).name.split()[0] for mover in found.movers]
    assert names == expected
    assert found.movers[0].score_b - found.movers[0].score_a == pytest.approx(0.6)
    assert found.movers[0].positive_b


def test_studies_are_compared_too(tmp_path: Path) -> None:
    a = [study("1", 0.1), study("2", 0.9), study("3", None), study("4", 0.2)]
    b = [study("2", 0.4), study("1", 0.3), study("3", 0.7), study("5", None)]
    studies = compared(tmp_path, A, B, (a, b))[0].studies
    assert (studies.matched, studies.only_a, studies.only_b) == (3, 1, 1)
    assert (studies.scored_only_a, studies.scored_only_b) == (0, 1)
    assert (studies.positive_a.count, studies.positive_a.of) == (1, 3)
    assert (studies.positive_b.count, studies.positive_b.of) == (1, 3)
    assert (studies.decisions.lost, studies.decisions.both_negative) == (1, 1)
    assert studies.differences is not None
    assert studies.differences.mean == pytest.approx((0.2 - 0.5) / 2)


BROKEN = [unscored(name, ERROR, "EMPTY_FILE") for name in ("x", "y")]
FINE = [scored("x", 0.9), scored("y", 0.1)]


@pytest.mark.parametrize(
    ("a", "b", "matched", "changed", "lines"),
    [
        ([], [], 0, 0, ["0 in both"]),
        ([], FINE, 0, 0, ["0 in A only, 2 in B only"]),
        (FINE, [], 0, 0, ["2 in A only, 0 in B only"]),
        (BROKEN, BROKEN, 2, 0, ["2 (100.0%)", "2 in both, 2 by source_uri"]),
        (FINE, BROKEN, 2, 2, ["another status: 2, 100.00% (34.24–100.00%)"]),
        (FINE, FINE, 2, 0, ["all are equal", "p = 1.0000"]),
    ],
    ids=["empty", "empty A", "empty B", "broken", "broken in B", "the same"],
)
def test_runs_with_little_in_them_can_be_compared(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    a: list[Outcome],
    b: list[Outcome],
    matched: int,
    changed: int,
    lines: list[str],
) -> None:
    found, rows = compared(tmp_path, a, b)
    assert found.matched == matched
    assert found.status_changed.count == changed == len(rows)
    assert found.decisions.changed.count == 0
    assert (found.differences is None) == (not (a == b == FINE))
    assert (found.drift is None) == (not (a == b == FINE))
    assert found.movers == []
    page.show(found)
    text = capsys.readouterr().out
    assert all(line in text for line in lines), text


@pytest.mark.parametrize("width", [80, 120])
def test_the_text_fits_and_names_no_path(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    long = {"sop_instance_uid": "1.2." + "3" * 60}
    a = [*A, scored("Canary^Patient", 0.001, **long)]
    b = [*B, scored("Canary^Patient", 0.999, **long)]
    found, _ = compared(tmp_path, a, b, ([study("1", 0.1)], [study("1", 0.8)]))
    page.show(found)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    assert "Canary" not in text
    assert "+0.9980" in text
    assert "3" * 20 in text
    assert "LATERAL_VIEW" in text


def test_many_kinds_of_change_are_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    a = [unscored(f"{i}", ERROR, f"REASON_{i:02}") for i in range(25)]
    found, _ = compared(tmp_path, a, [scored(f"{i}", 0.1) for i in range(25)])
    page.show(found)
    text = capsys.readouterr().out
    assert "5 other changes" in text
    assert len(found.transitions) == 25
