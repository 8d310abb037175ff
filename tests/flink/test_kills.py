"""As tests/test_kills.py, with Flink: launcher, job server and workers all die."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import killed
from tests.flink.install import CACHE, installed

pytestmark = [pytest.mark.flink, pytest.mark.timeout(1500)]

MOMENTS = {"listing": 12.0, "scoring": 2.0, "publishing": 4.0}


def test_killed_ten_times_it_ends_as_if_it_never_was(
    model_dir: Path, tmp_path: Path
) -> None:
    archive = killed.write_archive(tmp_path / "archive")
    flags = [f"--input={archive}", f"--model={model_dir}", "--runner=FlinkRunner"]
    flags += ["--flink_master=[local]", "--parallelism=2"]
    flags += [f"--flink_job_server_jar={installed(CACHE).job_server}"]
    killed.check_kills(flags, tmp_path, MOMENTS, 10, writers=2)
