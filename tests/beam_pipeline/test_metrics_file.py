from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from beam_pipeline import metrics_file
from beam_pipeline.ending import Ending, ExitCode

RECORD = {
    "listed": 5,
    "carried": 2,
    "studies": 4,
    "statuses": {"SCORED": 3, "REJECTED": 2, "ERROR": 0},
    "reasons": {"REJECTED": {"BODY_PART": 2}},
    "inference": {
        "devices": [{"device": "CPU", "batch_size": 32}],
        "batches": 1,
        "busy_seconds": 1.5,
        "idle_seconds": 0.5,
        "idle_share": 0.25,
    },
    "broken_limits": [{"limit": "min_inputs", "allowed": 9, "found": 5}],
    "model": {
        "name": 'pneu"monia\\',
        "version": "3",
        "digest": "sha256:00",
        "operating_point": None,
    },
    "versions": {"radiograph-scorer": "0.4.0"},
}


def values(path: Path) -> dict[str, float]:
    """By name and labels other than the schedule."""
    found = {}
    for family in text_string_to_metric_families(path.read_text("utf-8")):
        assert family.documentation.endswith(".")
        assert family.type == "gauge"
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("schedule") == path.stem
            key = ",".join([sample.name, *labels.values()])
            found[key.removeprefix("radiograph_scorer_")] = sample.value
    return found


def ending(code: ExitCode, **record: object) -> Ending:
    return Ending(exit_code=code, run_id="r", seconds=12.5, record=record)


def test_what_a_record_says_stands_in_the_metrics(tmp_path: Path) -> None:
    path = tmp_path / "ward.prom"
    metrics_file.write(path, ending(ExitCode.LIMIT_BROKEN, **RECORD))
    found = values(path)
    assert found.pop("last_run_timestamp_seconds") == found.pop(
        "last_success_timestamp_seconds"
    )
    assert found == {
        "exit_code": 3,
        "run_duration_seconds": 12.5,
        "listed_files": 5,
        "carried_files": 2,
        "studies": 4,
        "files,SCORED": 3,
        "files,REJECTED": 2,
        "files,ERROR": 0,
        "reasons,BODY_PART,REJECTED": 2,
        "device_busy_seconds": 1.5,
        "device_idle_seconds": 0.5,
        "device_idle_ratio": 0.25,
        "device_batch_size,CPU": 32,
        "limit_broken,max_error_rate": 0,
        "limit_broken,max_reject_rate": 0,
        "limit_broken,min_inputs": 1,
        'info,pneu"monia\\,sha256:00,3,None,0.4.0': 1,
    }
    assert [child.name for child in tmp_path.iterdir()] == ["ward.prom"]


def test_the_page_on_schedules_lists_the_metrics_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "ward.prom"
    metrics_file.write(path, ending(ExitCode.COMPLETE, **RECORD))
    written = re.findall(r"^# TYPE (\w+) gauge$", path.read_text(), re.MULTILINE)
    page = Path(__file__).parents[2] / "docs" / "schedule.md"
    listed = re.findall(
        r"^\| `(radiograph_scorer_\w+)` \|", page.read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted(written)


@pytest.mark.parametrize("code", [ExitCode.FAILED, ExitCode.TERMINATED])
def test_the_last_success_survives_failed_nights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: ExitCode
) -> None:
    path = tmp_path / "ward.prom"
    clock = iter([1000.0, 2000.0, 3000.0])
    monkeypatch.setattr(metrics_file.time, "time", lambda: next(clock))
    metrics_file.write(path, ending(ExitCode.COMPLETE, **RECORD))
    for now in (2000.0, 3000.0):
        metrics_file.write(path, ending(code))
        found = values(path)
        assert found["last_success_timestamp_seconds"] == 1000
        assert found["last_run_timestamp_seconds"] == now
        assert found["exit_code"] == code
        assert "files,SCORED" not in found


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"a{b=", b"# HELP x y", b"name not-a-number"]
)
def test_a_file_that_is_none_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ward.prom"
    path.write_bytes(content)
    metrics_file.write(path, ending(ExitCode.FAILED))
    assert values(path)["last_success_timestamp_seconds"] == 0


def test_metrics_that_cannot_be_written_are_an_error_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "gone" / "ward.prom"
    metrics_file.write(path, ending(ExitCode.COMPLETE, **RECORD))
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert str(path) in record.getMessage()
