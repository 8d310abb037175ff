"""Killed at any moment, again and again, a job ends as one that nobody disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import killed

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
    model_dir: Path, tmp_path: Path
) -> None:
    archive = killed.write_archive(tmp_path / "archive")
    flags = [f"--input={archive}", f"--model={model_dir}"]
    killed.check_kills(flags, tmp_path, MOMENTS, 50)
