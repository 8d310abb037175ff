from __future__ import annotations

import os
from pathlib import Path

import pytest

from beam_pipeline import runs


def test_a_local_file_gets_its_name_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs" / "run.json"

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        runs.write_bytes(str(path), b"half")
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="relies on /proc refusing even root")
def test_an_output_that_cannot_be_written_says_why() -> None:
    with pytest.raises(ValueError, match="--output /proc/out cannot be written"):
        runs.probe("/proc/out")


def test_an_output_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        runs.probe(str(tmp_path / "file" / "out"))


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    runs.probe(str(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
