"""Fixtures.

model_dir   a model directory of the contract, whose score is the mean brightness
export      a folder of good, rejected and broken files, with the status of each
"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests import radiographs


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return radiographs.save_model(tmp_path_factory.mktemp("models") / "brightness")


@pytest.fixture
def export(tmp_path: Path) -> tuple[Path, dict[str, tuple[str, str | None]]]:
    """The folder, and by file name the expected (status, reason)."""
    folder = tmp_path / "export"
    (folder / "a folder" / "deep").mkdir(parents=True)
    dark, bright = radiographs.chest(0.2), radiographs.chest(0.8)
    study = "1.2.3.4"
    files = {
        "dark.dcm": radiographs.dicom(dark, StudyInstanceUID=study),
        "bright.dcm": radiographs.dicom(bright, StudyInstanceUID=study),
        "a folder/deep/lateral.dcm": radiographs.dicom(
            bright, StudyInstanceUID=study, ViewPosition="LL"
        ),
        "hand [1].dcm": radiographs.dicom(bright, BodyPartExamined="HAND"),
    }
    for name, dataset in files.items():
        (folder / name).write_bytes(radiographs.to_bytes(dataset))
    Image.fromarray(bright).save(folder / "bright.png")
    whole = (folder / "dark.dcm").read_bytes()
    (folder / "truncated.dcm").write_bytes(whole[:-100])
    (folder / "text.dcm").write_text("no DICOM" * 100)
    (folder / "empty").touch()
    return folder, {
        "dark.dcm": ("SCORED", None),
        "bright.dcm": ("SCORED", None),
        "bright.png": ("SCORED", None),
        "lateral.dcm": ("REJECTED", "LATERAL_VIEW"),
        "hand [1].dcm": ("REJECTED", "BODY_PART"),
        "truncated.dcm": ("ERROR", "PIXELDATA_TRUNCATED"),
        "text.dcm": ("ERROR", "UNRECOGNISED"),
        "empty": ("ERROR", "EMPTY_FILE"),
    }
