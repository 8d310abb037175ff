"""Which way imports run: the leaves know nobody, and the pipeline not its trainer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LEAVES = ("saved_model", "decide", "records", "errors", "manifest", "images")
STAGES = ("match", "read", "infer", "write")
MODULES = [
    path.relative_to(ROOT)
    for package in ("beam_pipeline", "trainer")
    for path in sorted((ROOT / package).rglob("*.py"))
]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """The modules of beam_pipeline that `path` imports, by their first name."""
    return {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith("beam_pipeline.")
    }


def named(path: Path) -> str:
    return path.parts[1].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_run_one_way(path: Path) -> None:
    found = set(imports(path))
    roots = {name.split(".")[0] for name in found}
    if path.parts[0] == "trainer":
        assert "apache_beam" not in roots
        assert ours(path) <= set(LEAVES)
        return
    assert "trainer" not in roots
    name = named(path)
    if name in LEAVES:
        assert "apache_beam" not in roots
        assert ours(path) <= set(LEAVES)
    if name in STAGES:
        assert not ours(path) & (set(STAGES) - {name})
    if name != "saved_model":
        assert "tensorflow" not in roots
    assert "keras" not in roots


def test_the_lists_name_modules_that_exist() -> None:
    names = {named(path) for path in MODULES if path.parts[0] == "beam_pipeline"}
    assert set(LEAVES) | set(STAGES) <= names
