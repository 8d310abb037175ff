"""Killed at any moment, again and again, a job ends as one that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests import radiographs

KILLS = 50
FILES = 300
SEGMENT_ROWS = 20
SEED = int(os.environ.get("KILL_SEED", "1"))

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


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 files: two images a study, every tenth rejected, every fifteenth broken."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(FILES):
        attributes = {"StudyInstanceUID": f"1.2.{number // 2}"}
        if number % 10 == 0:
            attributes["ViewPosition"] = "LL"
        chest = radiographs.chest(0.1 + 0.8 * number / FILES)
        data = radiographs.to_bytes(radiographs.dicom(chest, **attributes))
        cut = data[:-100] if number % 15 == 0 else data
        (folder / f"{number % 7}").mkdir(exist_ok=True)
        (folder / f"{number % 7}" / f"{number}.dcm").write_bytes(cut)
    return folder


class Job:
    """A job over the archive, which can be started again and again."""

    def __init__(self, archive: Path, model_dir: Path, output: Path) -> None:
        self.output = output
        self._arguments = ["score", f"--input={archive}", f"--output={output}"]
        self._arguments += [f"--model={model_dir}"]
        self._starts = 0

    def start(self) -> subprocess.Popen[bytes]:
        self._starts += 1
        self.log = self.output.with_name(f"{self.output.name}-{self._starts}.log")
        self.log.touch()
        command = [sys.executable, "-c", COMMAND, str(self.log), *self._arguments]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def scored(self) -> list[str]:
        """What this start has scored."""
        return self.log.read_text().splitlines()

    def kept(self) -> set[str]:
        """What is in the journal."""
        segments = self.output.glob("_journal/*/segment-*.parquet")
        tables = [pq.read_table(path, columns=["source_uri"]) for path in segments]
        return {uri for table in tables for uri in table["source_uri"].to_pylist()}

    def has_begun(self) -> bool:
        return any(self.output.glob("_journal/*/run.json"))

    def has_published(self) -> bool:
        return any(self.output.glob("instances/*/*"))

    def is_finished(self) -> bool:
        return any(self.output.glob("runs/*/_SUCCESS"))

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


# How long after each moment something else begins, in seconds.
MOMENTS = {
    "starting": 3.0,
    "listing": 3.0,
    "scoring": 1.0,
    "publishing": 1.0,
    "ending": 0.02,
}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_fifty_times_it_ends_as_if_it_never_was(
    archive: Path, model_dir: Path, tmp_path: Path
) -> None:
    undisturbed = Job(archive, model_dir, tmp_path / "undisturbed")
    assert undisturbed.start().wait(300) == 0
    assert len(undisturbed.rows("instances")) == FILES
    chance = random.Random(SEED)
    kills: Counter[str] = Counter()
    outputs = 0
    while kills.total() < KILLS:
        outputs += 1
        job = Job(archive, model_dir, tmp_path / f"out-{outputs}")
        while kills.total() < KILLS and not job.is_finished():
            moment = chance.choice(list(MOMENTS))
            before = job.kept()
            process = job.start()
            wait_for(moment, job, process)
            time.sleep(chance.uniform(0, MOMENTS[moment]))
            process.send_signal(signal.SIGKILL)
            if process.wait() == -signal.SIGKILL:
                kills[moment] += 1
            scored = job.scored()
            assert len(scored) == len(set(scored))
            # Only what was broken is tried again; all else was taken over.
            again = [uri for uri in scored if uri in before]
            assert len(again) <= FILES // 15
            if not job.is_finished():
                assert len(set(scored) - job.kept()) <= SEGMENT_ROWS
        if not job.is_finished():
            assert job.start().wait(300) == 0
        # What was killed between its last word and its end cleans up the next time.
        assert job.rows("instances") == undisturbed.rows("instances")
        assert job.rows("studies") == undisturbed.rows("studies")
    print(f"killed at {dict(kills)}, in {outputs} outputs")
    assert all(kills[moment] for moment in MOMENTS)
