from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipeline import counts, progress
from beam_pipeline.__main__ import main
from beam_pipeline.progress import Progress

Export = tuple[Path, dict[str, tuple[str, str | None]]]


class Log(logging.Handler):
    """What is logged of the progress."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def wait_for(self, pattern: str) -> None:
        deadline = time.monotonic() + 20
        while not any(re.fullmatch(pattern, line) for line in list(self.lines)):
            assert time.monotonic() < deadline, self.lines[-1:]
            time.sleep(0.01)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """As of a run that logs many times a second."""
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)
    logger, handler = logging.getLogger(progress.__name__), Log()
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def count(name: str, times: int) -> None:
    for _ in range(times):
        counts.count(name)


def test_a_log_is_told_of_each_stage(log: Log) -> None:
    # What another run in this process counted is not of this one.
    count("SCORED", 7)
    with Progress():
        count(counts.FOUND, 2000)
        log.wait_for("2,000 files found")
        count("SCORED", 900)
        count("REJECTED", 100)
        log.wait_for("1,000 of 2,000 files.*: 900 SCORED, 100 REJECTED")
        count(counts.CARRIED, 500)
        log.wait_for(
            r"1,500 of 2,000 files, [\d,.]+/s, 0:00:\d\d left: "
            "900 SCORED, 100 REJECTED, 500 carried"
        )
        count("ERROR", 500)
        log.wait_for("2,000 files done, writing the tables")


def test_nothing_is_said_of_a_job_that_runs_elsewhere(log: Log) -> None:
    with Progress():
        time.sleep(0.2)
    assert log.lines == []


def test_the_job_counts_what_it_does_and_its_log_stays_plain(
    export: Export, model_dir: Path, tmp_path: Path, log: Log
) -> None:
    folder, expected = export
    before = counts.here()
    flags = [f"--output={tmp_path / 'out'}", f"--model={model_dir}"]
    assert main(["score", f"--input={folder}", *flags]) == 0
    statuses = [status for status, _ in expected.values()]
    found = counts.here() - before
    assert found[counts.FOUND] == found[counts.LISTED] == len(statuses)
    for status in ("SCORED", "REJECTED", "ERROR"):
        assert found[status] == statuses.count(status)
    assert f"{len(statuses)} files found" in log.lines
    assert all("\x1b" not in line and "\r" not in line for line in log.lines)


def test_a_terminal_shows_one_line_that_is_drawn_again(
    export: Export, model_dir: Path, tmp_path: Path
) -> None:
    folder, expected = export
    command = [sys.executable, "-m", "beam_pipeline", "score", f"--input={folder}"]
    command += [f"--output={tmp_path / 'out'}", f"--model={model_dir}"]
    shown, code = on_terminal([*command, "--max_error_rate=0.1", "--read_workers=1"])
    assert code == 3
    bar, _, rest = shown.rpartition("files done, writing the tables")
    # In one place: back to the start of the line, which is erased.
    assert bar.count("\r\x1b[2K") >= 2
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", rest).replace("\r", "")
    # What follows has lines of its own.
    assert "Limit broken: --max_error_rate is 0.1" in plain
    assert f"\n{len(expected)} files in " in plain
    assert re.search(r"\nthe model on CPU, 16 images at once: busy \d+\.\d s, ", plain)
    last = plain.splitlines()[-1]
    assert last.startswith("radiograph-scorer run_id=")
    assert " device_idle=0.000 " in last


def on_terminal(command: list[str]) -> tuple[str, int]:
    """What `command` shows on a terminal of 120 columns, and its exit code."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.extend(_chunks(ours)))
    reader.start()
    code = process.wait()
    reader.join()
    os.close(ours)
    return b"".join(read).decode(), code


def _chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        # Linux's way to say that nobody writes any more.
        except OSError:
            return
        yield chunk
