from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipeline import doctor
from beam_pipeline.images import codecs
from tests import radiographs


def test_a_sound_machine_is_well(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.run(model_dir, str(tmp_path))
    printed = capsys.readouterr().out
    assert "BAD" not in printed
    assert printed.count("decoder of") == len(codecs.DECODERS)
    for word in ("tensorflow", "device", "brightness 1", "answers", "can be written"):
        assert word in printed
    for word in ("blessing of the model", "auc 0.900 of 0.8: held"):
        assert word in printed


def test_a_missing_decoder_a_changed_model_and_a_full_disk_are_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(*_: object) -> None:
        raise ImportError("no such codec")

    syntax = next(iter(codecs.DECODERS))
    monkeypatch.setitem(codecs.DECODERS, syntax, (missing,))
    model = radiographs.save_model(tmp_path / "model")
    (model / "saved_model.pb").unlink()
    (tmp_path / "file").touch()
    assert not doctor.run(model, str(tmp_path / "file" / "out"))
    bad = [line for line in capsys.readouterr().out.splitlines() if "BAD" in line]
    assert len(bad) == 3
    assert "no such codec" in bad[0]
    assert "missing: saved_model.pb" in bad[1]
    assert "cannot be written" in bad[2]


def test_an_unblessed_model_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missed = replace(
        radiographs.BLESSING, blessed=False, reasons=("auc 0.900 of 0.95: missed",)
    )
    model = radiographs.save_model(tmp_path / "model", blessing=missed)
    assert not doctor.run(model, None)
    [bad] = [line for line in capsys.readouterr().out.splitlines() if "BAD" in line]
    assert "not blessed: auc 0.900 of 0.95: missed" in bad
    assert "--allow_unblessed" in bad


def test_there_is_an_encoder_for_every_decoder() -> None:
    assert doctor.ENCODERS.keys() == codecs.DECODERS.keys()
