from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from beam_pipeline import staging, storage
from beam_pipeline.manifest import ManifestError
from beam_pipeline.records import Source
from beam_pipeline.staging import StagingError


@pytest.fixture
def shelf(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[str]]:
    """A folder that is reached as `shelf://`, and what was opened there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(model_dir, tmp_path / "shelf" / "model")
    opened: list[str] = []
    local = storage.open

    def shelved(source: Source, settings: storage.Settings) -> object:
        opened.append(source.uri)
        path = str(tmp_path / "shelf" / source.uri.removeprefix("shelf://"))
        return local(Source(path))

    monkeypatch.setattr(storage, "open", shelved)
    return tmp_path / "shelf", opened


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_a_local_model_stays_where_it_is(model_dir: Path) -> None:
    assert staging.model(str(model_dir)) == model_dir


def test_a_model_is_fetched_once(
    shelf: tuple[Path, list[str]], model_dir: Path
) -> None:
    _, opened = shelf
    staged = staging.model("shelf://model/")
    assert files(staged) == files(model_dir)
    assert [path.name for path in staged.parent.iterdir()] == [staged.name]
    opened.clear()
    assert staging.model("shelf://model") == staged
    assert opened == ["shelf://model/assets.extra/manifest.json"]


def test_a_staged_model_that_was_damaged_is_fetched_again(
    shelf: tuple[Path, list[str]],
) -> None:
    staged = staging.model("shelf://model")
    (staged / "saved_model.pb").write_bytes(b"damaged")
    assert staging.model("shelf://model") == staged
    assert (staged / "saved_model.pb").stat().st_size > 100


def test_a_model_whose_files_are_not_its_own_is_refused(
    shelf: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, _ = shelf
    (folder / "model" / "saved_model.pb").write_bytes(b"another")
    with pytest.raises(ManifestError, match=r"shelf://model .*changed: saved_model"):
        staging.model("shelf://model")
    assert not list((tmp_path / "cache/radiograph-scorer/models").iterdir())


def test_a_small_file_is_staged_by_its_content(shelf: tuple[Path, list[str]]) -> None:
    folder, _ = shelf
    (folder / "rules.toml").write_text("extends = 'default'")
    staged = staging.file("shelf://rules.toml")
    assert staged.read_text() == "extends = 'default'"
    assert staged.suffix == ".toml"
    (folder / "rules.toml").write_text("rule = []")
    assert staging.file("shelf://rules.toml").read_text() == "rule = []"
    assert staging.file("rules.toml") == Path("rules.toml")


def test_what_cannot_be_fetched_is_said(shelf: tuple[Path, list[str]]) -> None:
    folder, _ = shelf
    (folder / "none").mkdir()
    with pytest.raises(StagingError, match="shelf://none cannot be read: it is a"):
        staging.file("shelf://none")
