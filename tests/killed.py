"""A job that is killed at random moments and started again, until it has finished."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests import radiographs

FILES = 300
SEGMENT_ROWS = 20
SEED = int(os.environ.get("KILL_SEED", "1"))
BROKEN = 15

# The command itself, with segments small enough for this archive, and a log of every
# file whose row is final, from before it is written.
COMMAND = f"""
import os, sys
from beam_pipeline import write
from beam_pipeline.__main__ import main

write._SEGMENT_ROWS = {SEGMENT_ROWS}
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
process = write.WriteSegments.process

def logged(self, outcome):
    os.write(log, (outcome.source_uri + "\\n").encode())
    return process(self, outcome)

write.WriteSegments.process = logged
sys.exit(main(sys.argv[1:]))
"""


def write_archive(folder: Path) -> Path:
    """300 files: two images a study, every tenth rejected, every fifteenth broken."""
    for number in range(FILES):
        attributes = {"StudyInstanceUID": f"1.2.{number // 2}"}
        if number % 10 == 0:
            attributes["ViewPosition"] = "LL"
        chest = radiographs.chest(0.1 + 0.8 * number / FILES)
        data = radiographs.to_bytes(radiographs.dicom(chest, **attributes))
        cut = data[:-100] if number % BROKEN == 0 else data
        (folder / f"{number % 7}").mkdir(parents=True, exist_ok=True)
        (folder / f"{number % 7}" / f"{number}.dcm").write_bytes(cut)
    return folder


class Job:
    """A job over the archive, which can be started again and again.

    Args:
        output: where it writes.
        flags: of `score`, without its output.
    """

    def __init__(self, output: Path, flags: Sequence[str]) -> None:
        self.output = output
        self._arguments = ["score", f"--output={output}", *flags]
        self._starts = 0

    def start(self) -> subprocess.Popen[bytes]:
        self._starts += 1
        self.log = self.output.with_name(f"{self.output.name}-{self._starts}.log")
        self.log.touch()
        command = [sys.executable, "-c", COMMAND, str(self.log), *self._arguments]
        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self) -> None:
        """Start it, and let it end."""
        assert self.start().wait(300) == 0

    def scored(self) -> list[str]:
        """What this start has scored."""
        return self.log.read_text().splitlines()

    def kept(self) -> set[str]:
        """What is in the journal."""
        kept: set[str] = set()
        for path in self._found("_journal/*/segment-*.parquet"):
            with suppress(FileNotFoundError):
                table = pq.read_table(path, columns=["source_uri"])
                kept.update(table["source_uri"].to_pylist())
        return kept

    def has_begun(self) -> bool:
        return bool(self._found("_journal/*/run.json"))

    def has_published(self) -> bool:
        return bool(self._found("instances/*/*"))

    def is_finished(self) -> bool:
        return bool(self._found("runs/*/_SUCCESS"))

    def _found(self, pattern: str) -> list[Path]:
        """What there is; a job may delete a folder while it is looked into."""
        try:
            return list(self.output.glob(pattern))
        except FileNotFoundError:
            return []

    def rows(self, table: str) -> list[dict[str, Any]]:
        """What differs between no two runs, in an order that does not either."""
        columns = pq.read_table(self.output / table)
        mine = ("run_id", "run", "scored_at", "carried_from")
        kept = [name for name in columns.column_names if name not in mine]
        return sorted(columns.select(kept).to_pylist(), key=str)


def wait_for(moment: str, job: Job, process: subprocess.Popen[bytes]) -> None:
    """Return when the job has come to `moment`, or has ended."""
    come = {
        "starting": lambda: True,
        "listing": job.has_begun,
        "scoring": lambda: bool(job.scored()),
        "publishing": lambda: job.has_published() or not_scored(job) == 0,
        "ending": job.is_finished,
    }[moment]
    deadline = time.monotonic() + 120
    while process.poll() is None and not come():
        assert time.monotonic() < deadline, f"it never came to {moment}"
        time.sleep(0.002)


def not_scored(job: Job) -> int:
    return FILES - len(job.kept() | set(job.scored()))


# Moments, and how long after each the next begins, in seconds.
Moments = Mapping[str, float]


def kill(job: Job, moment: str, seconds: float) -> bool:
    """Start `job` and kill it so long after `moment`; whether it was still alive."""
    process = job.start()
    wait_for(moment, job, process)
    time.sleep(seconds)
    # Also what it started: a machine that dies takes all of it along.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def check_kills(
    flags: Sequence[str], folder: Path, moments: Moments, kills: int, writers: int = 1
) -> None:
    """Kill a job so many times, and hold its rows against an undisturbed one's.

    Args:
        flags: of `score`, without its output.
        folder: where all of them write.
        moments: when to kill.
        kills: how often.
        writers: how many segments are written at once.
    """
    undisturbed = Job(folder / "undisturbed", flags)
    undisturbed.run()
    assert len(undisturbed.rows("instances")) == FILES
    chance = random.Random(SEED)
    in_turn = cycle(chance.sample(list(moments), len(moments)))
    done: Counter[str] = Counter()
    outputs = 0
    while done.total() < kills:
        outputs += 1
        job = Job(folder / f"out-{outputs}", flags)
        while done.total() < kills and not job.is_finished():
            before = job.kept()
            moment = next(in_turn)
            done[moment] += kill(job, moment, chance.uniform(0, moments[moment]))
            scored = job.scored()
            assert len(scored) == len(set(scored))
            # Only what was broken is tried again; all else was taken over.
            again = before & set(scored)
            assert len(again) <= FILES // BROKEN
            if not job.is_finished():
                lost = set(scored) - job.kept()
                assert len(lost) <= SEGMENT_ROWS * writers
        if not job.is_finished():
            job.run()
        assert job.rows("instances") == undisturbed.rows("instances")
        assert job.rows("studies") == undisturbed.rows("studies")
    print(f"killed at {dict(done)}, in {outputs} outputs")
    assert all(done[moment] for moment in moments)
