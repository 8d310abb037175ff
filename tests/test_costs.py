"""What an archive costs: the formula by hand; the page says what the script prints."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from benchmarks import costs
from benchmarks.costs import Inputs, Machine

PAGE = (Path(__file__).parent.parent / "docs" / "costs.md").read_text("utf-8")


def test_the_formula_by_hand() -> None:
    inputs = Inputs(
        studies=1_000,
        images_per_study=3.6,
        read_ms=90,
        model_cpu_ms=10,
        busy=0.5,
        workers=2,
        start_minutes=6,
        vcpu_hour=0.1,
        memory_hour=0.01,
        disk_hour=0.001,
        requests_per_file=2,
        requests_per_thousand=1,
        megabytes=10,
        egress_gb=0.5,
        shuffle_kb=0,
    )
    # 4 cores, 100 ms an image, half of the time: 20 images/s.
    found = costs.bill(Machine("plain", 4, 10, 100), inputs)
    assert (found.rate, found.bound) == (pytest.approx(20), "cores")
    # 3,600 images on two such take 90 s, and each machine 6 minutes to start.
    assert found.hours == pytest.approx(0.025 + 0.1)
    # An hour: 4 × 0.1 + 10 × 0.01 + 100 × 0.001 = 0.6.
    assert found.machines == pytest.approx(0.125 * 2 * 0.6)
    # 7,200 requests at a dollar a thousand, and 36 GB at half a dollar.
    assert found.storage == pytest.approx(7.2 + 18)


def test_a_gpu_waits_for_the_cores_or_they_for_it() -> None:
    machine = Machine("with a GPU", 10, 0, 0, gpus=1)
    fast = costs.bill(machine, Inputs(read_ms=100, model_gpu_ms=1, busy=1))
    assert (fast.rate, fast.bound) == (100, "reading")
    slow = costs.bill(machine, Inputs(read_ms=100, model_gpu_ms=20, busy=1))
    assert (slow.rate, slow.bound) == (50, "GPU")


def test_flexrs_is_off_cores_and_memory_alone() -> None:
    inputs = Inputs(vcpu_hour=1, memory_hour=1, disk_hour=1, flexrs_discount=0.5)
    assert costs.hourly(Machine("plain", 2, 3, 4), inputs) == 9
    assert costs.hourly(Machine("plain", 2, 3, 4, flexrs=True), inputs) == 6.5


def test_the_page_has_the_tables_that_the_script_prints() -> None:
    assert costs.table(Inputs()) in PAGE
    assert "`--model_cpu_ms 150 --model_gpu_ms 5`" in PAGE
    assert costs.table(Inputs(model_cpu_ms=150, model_gpu_ms=5)) in PAGE


def test_the_page_says_of_every_figure_where_it_is_from() -> None:
    rows = re.findall(r"^\| (`.+?) \| (.+?) \| .+ \|$", PAGE, re.MULTILINE)
    said = {}
    for names, values in rows:
        pairs = zip(re.findall("`(.+?)`", names), values.split(", "), strict=True)
        said.update({name: float(value) for name, value in pairs})
    settled = ("studies", "workers")
    assert said == {
        field.name: field.default
        for field in dataclasses.fields(Inputs)
        if field.name not in settled
    }


def test_the_page_says_when_a_gpu_pays() -> None:
    inputs = Inputs()
    plain, *_ = costs.MACHINES
    for name, ratio, model_ms in [
        ("g2-standard-8, one L4", 2.2, 100),
        ("g2-standard-32, one L4", 1.3, 25),
    ]:
        [machine] = [each for each in costs.MACHINES if each.name == name]
        each_core = costs.hourly(plain, inputs) / plain.vcpus
        found = costs.hourly(machine, inputs) / machine.vcpus / each_core
        assert found == pytest.approx(ratio, abs=0.05)
        assert (found - 1) * inputs.read_ms == pytest.approx(model_ms, abs=0.5)
