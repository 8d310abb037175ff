from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipeline import inspect, manifest
from beam_pipeline.images import rules
from beam_pipeline.read import Reading
from beam_pipeline.records import Ready, Source
from tests import radiographs

Export = tuple[Path, dict[str, tuple[str, str | None]]]


def test_it_says_what_the_job_does(export: Export, model_dir: Path) -> None:
    folder, _ = export
    model = manifest.load(model_dir)
    accepted = rules.compiled(model)
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        would = inspect.inspect(path, model, accepted)
        *_, does = Reading(preparation=model.preparation, rules=accepted)(
            Source(str(path))
        )
        if isinstance(does, Ready):
            assert would.error is None
            np.testing.assert_array_equal(would.image, does.image)
        else:
            assert (would.error.reason, would.error.detail) == (
                does.reason,
                does.detail,
            )


def test_rules_and_ranges_are_printed(
    export: Export, model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lateral = export[0] / "a folder/deep/lateral.dcm"
    assert not inspect.run([lateral], model_dir, None, None)
    printed = capsys.readouterr().out
    assert "reject LATERAL_VIEW" in printed
    assert "view: view_position LL is not one of AP, PA, FRONTAL" in printed
    assert "body_part: body_part CHEST" in printed
    assert "window 128/256 LINEAR" in printed
    assert "REJECTED LATERAL_VIEW" in printed
    assert "Canary" not in printed


def test_a_model_that_is_not_blessed_may_be_looked_at(
    export: Export, tmp_path: Path
) -> None:
    model = radiographs.save_model(tmp_path / "model", blessing=None)
    assert inspect.run([export[0] / "dark.dcm"], model, None, None)


def test_the_model_input_is_saved(
    export: Export, model_dir: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    assert inspect.run([export[0] / "dark.dcm"], model_dir, None, saved)
    size = (radiographs.SIZE, radiographs.SIZE)
    with Image.open(saved / "0001-dark.dcm.png") as image:
        assert image.size == size
        pixels = np.asarray(image)
    model = manifest.load(model_dir)
    expected = inspect.inspect(
        export[0] / "dark.dcm", model, rules.compiled(model)
    ).image
    np.testing.assert_array_equal(pixels, expected[..., 0])


def test_a_file_that_cannot_be_read_does_not_end_the_others(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    odd = [tmp_path / "pipe", tmp_path, tmp_path / "gone.dcm"]
    assert not inspect.run(odd, model_dir, None, None)
    printed = capsys.readouterr().out
    for said in ("it is a pipe", "it is a folder", "No such file or directory"):
        assert f"ERROR READ_FAILED: {said}" in printed
