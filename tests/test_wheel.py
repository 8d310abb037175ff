"""The wheel, alone in an empty environment, scores from any folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from demo import assemble

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_scores_from_an_empty_environment(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    [wheel] = tmp_path.glob("*.whl")
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    install = [environment / "bin" / "pip", "install", "--quiet"]
    constraints = ["--constraint", ROOT / "constraints.txt"]
    subprocess.run([*install, *constraints, wheel], check=True)
    (tmp_path / "in").mkdir()
    shutil.copy(assemble.real("RG1_J2KR"), tmp_path / "in")
    command = [environment / "bin" / "beam-pipeline", "score"]
    # The radiograph is an adult's, and the model in the box for children.
    command += ["--eligibility", ROOT / "demo" / "rules.toml"]
    subprocess.run(
        [*command, "--input", "in", "--output", "out"], check=True, cwd=tmp_path
    )
    [row] = pq.read_table(tmp_path / "out" / "instances").to_pylist()
    assert row["status"] == "SCORED"
    trainer = [environment / "bin" / "trainer", "train", "--help"]
    done = subprocess.run(trainer, check=True, cwd=tmp_path, capture_output=True)
    assert b"--patient_pattern" in done.stdout
