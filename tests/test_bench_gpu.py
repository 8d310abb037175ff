"""The script for GPU machines, whose every step runs here on the processors."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipeline import saved_model
from benchmarks import gpu
from benchmarks.gpu import Job
from tests import radiographs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jpegs")
    for number in range(2):
        picture = radiographs.chest(0.3 + 0.4 * number, 96, 96)
        Image.fromarray(picture).save(folder / f"{number}.jpeg")
    return folder


def test_the_page_is_made_from_whole_jobs_and_the_model_alone(
    data: Path, model_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--data={data}", f"--model={model_dir}", "--studies=8", "--device=CPU"]
    assert gpu.main(flags) == 0
    text = capfd.readouterr().out
    assert re.search(r"^`make bench-gpu`, 8 studies, on CPU with \d+ cores", text, re.M)
    assert "| decisions that differ | 0 of 8 |" in text
    assert "| images at once | 16 |" in text
    tried = re.findall(r"^\| (\d+) \| [1-9]\d* \| – \|$", text, re.M)
    assert tried == ["16", "32", "64", "128"]
    ways = re.findall(r"^\| ([\w ,0-9-]+) \| [1-9]\d* \| ([\d.e-]+) \|$", text, re.M)
    assert [way for way, _ in ways] == [
        "as the job calls it",
        "XLA",
        "float32, without TensorFloat-32",
        "mixed precision",
    ]
    assert all(float(differs) < 1e-5 for _, differs in ways)


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(saved_model, "devices", list)
    assert gpu.main([]) == 2
    assert "TensorFlow sees no GPU" in capsys.readouterr().err


JOB = Job(
    seconds=10.0,
    logits=np.zeros((2000, 2)),
    positive=np.zeros(2000, bool),
    distance=np.full(2000, 0.25),
    record=json.loads(
        '{"inference": {"devices": [{"device": "NVIDIA L4", "batch_size": 64}],'
        '"batches": 8, "busy_seconds": 1, "idle_seconds": 3, "idle_share": 0.75}}'
    ),
)


@pytest.mark.parametrize(
    ("shifts", "flips", "agrees"),
    [
        ([], 0, True),
        ([0.14], 2, True),
        ([0.16], 0, False),
        ([0.06] * 5, 0, False),
        ([], 3, False),
    ],
)
def test_scores_may_differ_by_so_much(
    shifts: list[float], flips: int, agrees: bool
) -> None:
    logits, positive = JOB.logits.copy(), JOB.positive.copy()
    logits[: len(shifts), 1] = shifts
    positive[:flips] = True
    other = replace(JOB, logits=logits, positive=positive)
    assert gpu.agrees(other, JOB) is agrees


def test_the_page_says_rates_shares_and_flips() -> None:
    positive = JOB.positive.copy()
    positive[:3] = True
    text = gpu.page("NVIDIA L4", replace(JOB, positive=positive), JOB, 700.0)
    assert "| whole job, from the first batch to the last | 500.0 studies/s |" in text
    assert "| the same with start-up | 200.0 studies/s |" in text
    assert "| reading alone: what these cores bring | 700.0 studies/s |" in text
    assert "| share of time in which the device waited | 75% |" in text
    assert "3 of 2000, at most 0.25 from the threshold |" in text
