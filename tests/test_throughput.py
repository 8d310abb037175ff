"""What a study costs, by hand; who takes turns; how memory is counted."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import process, summary, throughput
from benchmarks.contenders import CONTENDERS, Task
from benchmarks.process import Measured
from benchmarks.summary import Run


def runs(contender: str, *rounds: tuple[float, float], error: str = "") -> list[Run]:
    """Runs of 10 and 110 studies that took so many seconds."""
    return [
        Run(
            workload="mix",
            contender=contender,
            round=number,
            studies=studies,
            seconds=seconds,
            cpu_seconds=2 * seconds,
            peak_bytes=int(seconds * 1e6),
            error=error,
        )
        for number, pair in enumerate(rounds)
        for studies, seconds in zip((10, 110), pair, strict=True)
    ]


OURS = runs("ours", (6, 16), (5, 25), (7, 12))
FLOOR = runs("floor", (3, 13), (3, 13), (3, 8))
PEER = runs("tf_data", (4, 104), (4, 204), (4, 54))


def test_a_study_costs_the_difference_of_two_archives() -> None:
    assert summary.costs(OURS, "ours") == pytest.approx({0: 0.1, 1: 0.2, 2: 0.05})


def test_a_round_that_lacks_an_archive_costs_nothing_known() -> None:
    assert set(summary.costs(OURS[:-1], "ours")) == {0, 1}
    assert summary.costs(OURS[:1], "ours") == {}
    assert summary.costs(runs("ours", (1, 2), error="killed"), "ours") == {}


def test_contenders_are_compared_within_a_round() -> None:
    ours, floor = summary.costs(OURS, "ours"), summary.costs(FLOOR, "floor")
    assert summary.ratios(ours, floor) == pytest.approx([1, 2, 1])
    assert summary.ratios({0: 1.0, 1: 1.0}, {1: 0.5, 2: 1.0}) == [2]
    assert summary.ratios({0: 1.0}, {0: 0.0}) == []


def test_the_spread_is_the_median_between_the_lowest_and_the_highest() -> None:
    assert summary.spread([3, 1, 2]) == "2.0 (1.0–3.0)"
    assert summary.spread([1234.56], 0) == "1,235"
    assert summary.spread([]) == "–"


def test_the_table_of_costs() -> None:
    failed = runs("ray_data", (1, 2), error="exit code 1")
    table = summary.cost_table([*OURS, *FLOOR, *PEER, *failed]).splitlines()
    assert table[2] == (
        "| ours | 100.0 (50.0–200.0) | 10.0 | 1.00 (1.00–2.00) | 1.00 (1.00–1.00) |"
    )
    assert table[4].startswith("| tf_data | 1,000.0 (500.0–2,000.0) | 1.0 |")
    assert table[4].endswith("| 10.00 (10.00–10.00) |")
    assert table[5] == "| ray_data | – | – | – | – |"
    assert summary.failures(failed)[0] == (
        "mix, ray_data, 10 studies, round 0: exit code 1"
    )


def test_the_table_of_whole_processes() -> None:
    heads, _, row = summary.process_table(OURS).splitlines()
    assert heads.startswith("|  | s for 10 studies | s for 110 studies | CPU s for 10")
    assert row.startswith("| ours | 6.0 (5.0–7.0) | 16.0 (12.0–25.0) | 12.0 (10.0–14")
    assert row.endswith("| 6 (5–7) | 16 (12–25) |")


def of_sizes(number: int, **seconds: float) -> list[Run]:
    """Runs of a round, by size, that took so many seconds."""
    return [
        dataclasses.replace(
            OURS[0], round=number, studies=int(size[1:]), seconds=s, cpu_seconds=2 * s
        )
        for size, s in seconds.items()
    ]


def test_a_cost_rises_where_the_largest_archives_take_more_than_the_smallest() -> None:
    flat = of_sizes(0, _10=6, _110=16, _1010=106)
    steep = of_sizes(1, _10=6, _110=16, _1010=124)
    incomplete = of_sizes(2, _10=6, _110=16)
    rises = summary.rises([*flat, *steep, *incomplete], "ours", lambda run: run.seconds)
    assert rises == pytest.approx({0: 0, 1: 0.2})
    assert summary.rises(OURS, "ours", lambda run: run.seconds) == {}


def test_the_table_of_rises_has_an_interval_over_the_rounds() -> None:
    rounds = [
        run
        for number, last in enumerate((106, 115, 124))
        for run in of_sizes(number, _10=6, _110=16, _1010=last)
    ]
    # Mean 10 %, standard deviation 10 %; t(2) at 97.5 % is 4.303.
    row = summary.rise_table(rounds).splitlines()[2]
    assert row == "| ours | 10.0 (-14.8 to 34.8) | 10.0 (-14.8 to 34.8) |"
    assert summary.rise_table(rounds[:3]).endswith("| ours | 0.0 | 0.0 |")


def test_the_table_of_decoding_has_gaps_where_a_plugin_cannot() -> None:
    rounds = [
        {"JPEG": {"gdcm": 10.0, "ours": 4.0}, "HTJ2K": {"ours": 5.0}},
        {"JPEG": {"gdcm": 20.0, "ours": 6.0}, "HTJ2K": {"ours": 7.0}},
    ]
    assert summary.decoding_table(rounds).splitlines() == [
        "|  | gdcm | ours |",
        "| --- | --- | --- |",
        "| JPEG | 15 (10–20) | 5 (4–6) |",
        "| HTJ2K | – | 6 (5–7) |",
    ]


def test_each_round_begins_with_another_contender() -> None:
    orders = [throughput.turned(["a", "b", "c"], number) for number in range(4)]
    assert orders == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_what_was_written_before_a_run_was_killed_can_be_reported(
    tmp_path: Path,
) -> None:
    record = tmp_path / "record.jsonl"
    machine = {"processor": "abacus", "cores": "2", "memory": "1 GiB", "load": "0.1"}
    lines = [
        {"kind": "machine", **machine, "system": "6", "python": "3.11", "ray": ""},
        *({"kind": "run", **vars(run)} for run in OURS[:3]),
    ]
    record.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "')
    told = summary.report([record])
    assert "2 cores of abacus, 1 GiB, Linux 6" in told
    assert "python 3.11." in told
    assert "### mix: 10 to 110 studies, 2 rounds" in told
    assert "| ours | 100.0 | 10.0 | – | 1.00 |" in told


def test_a_process_is_timed_and_its_children_are_counted() -> None:
    child = 'import time; held = b"x" * 60_000_000; time.sleep(0.8)'
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{child}'])"
    )
    measured = process.run([sys.executable, "-c", f"{parent}; print('well')"])
    assert (measured.returncode, measured.stdout) == (0, "well\n")
    assert 0.5 < measured.seconds < 30
    assert 60e6 < measured.peak_bytes < 300e6


def test_a_process_that_takes_too_long_is_killed_with_its_children() -> None:
    child = "import time; time.sleep(60)"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{child}'])"
    )
    measured = process.run([sys.executable, "-c", parent], timeout=0.5)
    assert measured.returncode == -9
    assert measured.seconds < 30


def test_a_run_counts_if_it_scored_every_radiograph(tmp_path: Path) -> None:
    task = Task(tmp_path, tmp_path / "output", tmp_path, tmp_path)
    task.output.mkdir()
    table = {"path": ["a", "b", "b", "c"], "score": [0.5, 0.1, 0.1, float("nan")]}
    pq.write_table(pa.table(table), task.output / "scores.parquet")
    peer = CONTENDERS["tf_data"]
    well = Measured(0, '{"studies": 3}', "", 1.0, 1.0, 1)
    assert throughput.objection(peer, task, well, 2) == ""
    assert throughput.objection(peer, task, well, 3) == "scored 2 of 3"
    assert throughput.objection(CONTENDERS["floor"], task, well, 3) == ""
    told = throughput.objection(CONTENDERS["ours"], task, well, 3)
    assert told.startswith("what it left cannot be read: FileNotFoundError")
    killed = Measured(-9, "", "last words\n", 1.0, 1.0, 1)
    assert throughput.objection(peer, task, killed, 2) == "exit code -9: last words"


def test_every_contender_is_given_the_archive_and_a_model(tmp_path: Path) -> None:
    task = Task(*(tmp_path / name for name in ("in", "out", "model", "net.keras")))
    for contender in CONTENDERS.values():
        command = " ".join(contender.command(task))
        assert str(task.archive) in command
        assert (str(task.model) in command) != (str(task.network) in command)
