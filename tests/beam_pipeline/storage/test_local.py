from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipeline import storage
from beam_pipeline.storage import local


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a [b] *c"
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("one.dcm", "deep/two", "deep/er/three [1].png", ".hidden"):
        (folder / name).write_bytes(b"123")
    return folder


def names(pattern: str) -> list[str]:
    return sorted(Path(source.uri).name for source in storage.list_files(pattern))


def test_a_folder_stands_for_every_file_below_it(folder: Path) -> None:
    expected = [".hidden", "one.dcm", "three [1].png", "two"]
    assert names(storage.normalise(str(folder))) == expected


def test_a_source_has_size_and_time(folder: Path) -> None:
    [source] = storage.list_files(storage.normalise(str(folder / "deep" / "er")))
    assert source.size == 3
    assert source.modified.timestamp() == pytest.approx(
        (folder / "deep/er/three [1].png").stat().st_mtime, abs=1e-3
    )


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    for name in ("a/1.dcm", "a/b/2.dcm", "x.dcm/3.dcm", "z/4.dcm", "r [1]*.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.symlink("..", tmp_path / "a/b/up")
    os.symlink("..", tmp_path / "a/b/up.dcm")
    os.symlink("nowhere", tmp_path / "a/dangling")
    os.symlink("circle", tmp_path / "a/circle")
    os.symlink("../z", tmp_path / "a/linked")
    os.mkfifo(tmp_path / "a/fifo")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (
            "",
            "a/1.dcm a/b/2.dcm a/b/up a/b/up.dcm a/circle a/dangling a/fifo "
            "a/linked/4.dcm x.dcm x.dcm/3.dcm z/4.dcm",
        ),
        ("*", "x.dcm"),
        ("a/*", "a/1.dcm a/circle a/dangling a/fifo"),
        ("*/*.dcm", "a/1.dcm x.dcm/3.dcm z/4.dcm"),
        ("?/*.dcm", "a/1.dcm z/4.dcm"),
        ("a/b/**", "a/b/2.dcm a/b/up a/b/up.dcm"),
        ("a/**/2.dcm", "a/b/2.dcm"),
        ("none/**", ""),
    ],
)
def test_what_is_odd_has_its_row_and_links_do_not_go_round(
    odd: Path, pattern: str, expected: str
) -> None:
    found = storage.list_files(storage.normalise(str(odd / pattern)))
    names = [os.path.relpath(source.uri, odd) for source in found]
    assert sorted(set(names) - {"r [1]*.dcm"}) == sorted(expected.split())
    assert len(names) == len(set(names))


def test_a_file_is_found_by_its_own_name(odd: Path) -> None:
    [source] = storage.list_files(storage.normalise(str(odd / "r [1]*.dcm")))
    assert source.uri == str(odd / "r [1]*.dcm")


@pytest.mark.parametrize("name", ["x[1]", "x*", "x?"])
def test_a_folder_s_own_name_stands_for_no_other(tmp_path: Path, name: str) -> None:
    for folder in (name, "x(1)", "x1", "xy"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.dcm").touch()
    found = storage.list_files(storage.normalise(str(tmp_path / name)))
    assert [source.uri for source in found] == [str(tmp_path / name / "a.dcm")]


def test_a_folder_that_can_be_read_no_further_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1.dcm", "2.dcm"):
        (tmp_path / name).touch()
    whole = os.scandir

    @contextlib.contextmanager
    def broken(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        def some() -> Iterator[os.DirEntry[str]]:
            with whole(path) as entries:
                yield next(entries)
            raise OSError(5, "Input/output error")

        yield some()

    monkeypatch.setattr(os, "scandir", broken)
    found = [source.uri for source in storage.list_files(str(tmp_path / "**"))]
    assert len(found) == 2
    assert found[-1] == str(tmp_path)


def test_a_folder_that_may_not_be_listed_has_a_row() -> None:
    user = os.geteuid()
    # Not tmp_path, which only its owner may enter.
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "closed").mkdir(mode=0)
        os.chmod(name, 0o755)
        # root may list any folder; nobody may not.
        os.seteuid(65534 if user == 0 else user)
        try:
            found = [source.uri for source in storage.list_files(f"{name}/**/*.dcm")]
        finally:
            os.seteuid(user)
    assert found == [f"{name}/closed"]


@pytest.mark.parametrize("seconds", [1e12, -1e12, None])
def test_a_time_that_no_calendar_has_is_none(seconds: float | None) -> None:
    assert local.time(seconds) is None


@pytest.mark.parametrize(
    ("pattern", "found"), [("*.dcm", True), ("*.png", False), ("one.dcm", True)]
)
def test_whether_anything_matches(tmp_path: Path, pattern: str, found: bool) -> None:
    (tmp_path / "one.dcm").touch()
    assert storage.matches_any(f"{tmp_path}/{pattern}") is found
