"""Which way imports run: the leaves know nobody, and the pipeline not its trainer."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LEAVES = (
    "contents",
    "saved_model",
    "decide",
    "calibration",
    "pseudonyms",
    "read",
    "records",
    "document",
    "errors",
    "limits",
    "manifest",
    "images",
    "storage",
    "uncollected",
)
STAGES = ("match", "read_ahead", "infer", "write", "publish")
MODULES = [
    path.relative_to(ROOT)
    for package in ("beam_pipeline", "trainer")
    for path in sorted((ROOT / package).rglob("*.py"))
]


def imports(path: Path) -> Iterator[str]:
    yield from _names(path, ast.walk(ast.parse((ROOT / path).read_text("utf-8"))))


def imports_at_once(path: Path) -> Iterator[str]:
    """Without those that a function makes when it needs them."""
    yield from _names(path, ast.parse((ROOT / path).read_text("utf-8")).body)


def _names(path: Path, nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
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
        at_once = {name.split(".")[0] for name in imports_at_once(path)}
        assert "apache_beam" not in at_once
        assert ours(path) <= set(LEAVES)
    if name in STAGES:
        assert not ours(path) & (set(STAGES) - {name})
    if name != "saved_model":
        assert "tensorflow" not in roots
    assert "keras" not in roots


def imports_tensorflow(path: Path) -> bool:
    """Whether importing a module of `trainer` imports TensorFlow or Keras."""
    found = set(imports_at_once(path))
    if {name.split(".")[0] for name in found} & {"tensorflow", "keras"}:
        return True
    inner = {Path(*name.split(".")).with_suffix(".py") for name in found}
    return any(imports_tensorflow(each) for each in inner & set(MODULES))


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.parts[:2] == ("trainer", "commands")], ids=str
)
def test_commands_keep_back_what_tensorflow_starts_with(path: Path) -> None:
    assert not imports_tensorflow(path)
    inner = {Path(*name.split(".")).with_suffix(".py") for name in imports(path)}
    if any(imports_tensorflow(each) for each in inner & set(MODULES)):
        text = (ROOT / path).read_text("utf-8")
        assert "    saved_model.tensorflow()\n    from trainer" in text


def test_the_lists_name_modules_that_exist() -> None:
    names = {named(path) for path in MODULES if path.parts[0] == "beam_pipeline"}
    assert set(LEAVES) | set(STAGES) <= names
