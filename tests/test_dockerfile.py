"""Facts that stand in the Dockerfile and elsewhere are the same; hadolint does more."""

from __future__ import annotations

import re
from pathlib import Path

from beam_pipeline import dataflow

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
)


def bases() -> dict[str, str]:
    """Images and tags that stages begin from, without stages themselves."""
    found = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    stages = {stage for _, stage in found}
    return dict(image.split(":") for image, _ in found if image not in stages)


def test_the_python_is_the_one_that_jobs_are_submitted_with() -> None:
    version = ".".join(map(str, dataflow.IMAGE_PYTHON))
    images = bases()
    assert images["python"].startswith(f"{version}.")
    assert f"apache/beam_python{version}_sdk" in images
    launcher = f"python{version.replace('.', '')}-template-launcher-base"
    assert any(image.endswith(launcher) for image in images)


def test_boot_is_that_of_the_beam_that_is_installed() -> None:
    assert bases()["apache/beam_python3.11_sdk"] == PINNED["apache-beam"]


def test_base_images_are_pinned_to_what_does_not_move() -> None:
    for image, tag in bases().items():
        assert re.search(r"\d+(\.\d+){2}|\d{8}_RC\d+", tag), f"{image}:{tag}"


def test_the_label_is_the_version() -> None:
    version = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text())[1]
    assert f'org.opencontainers.image.version="{version}"' in DOCKERFILE


def test_cuda_is_pinned_with_the_rest() -> None:
    assert {"nvidia-cudnn-cu12", "nvidia-cublas-cu12"} <= set(PINNED)


def test_what_is_started_elsewhere_than_on_dataflow_is_not_root() -> None:
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert last.startswith("base AS worker\n")
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", last, re.MULTILINE)


def test_nothing_that_the_image_needs_is_ignored_and_the_data_are() -> None:
    kept = (ROOT / ".dockerignore").read_text().split("*\n", 1)[1].splitlines()
    sources = re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    names = {name for line in sources for name in line.split()}
    assert names == {name.removeprefix("!") for name in kept if name.startswith("!")}
