"""Take out, one by one, the lines that make the numbered rules true: is it seen?

    python tests/mutants.py [RULE …]

Each mutant of `mutants.toml` is made in a copy of the package, and the tests named
after its rule are run on it, in a process forked from one that has the libraries
loaded. A mutant that no test sees survives. Exits with 1 when one survives, or when its
old text is not found exactly once.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TABLE = Path(__file__).with_name("mutants.toml")
RULES = ROOT / "tests" / "beam_pipeline" / "images"
# What takes long to load, and is the same in every mutant.
LIBRARIES = (
    "apache_beam",
    "imagecodecs",
    "keras",
    "numpy",
    "PIL.ImageCms",
    "pyarrow.parquet",
    "pydicom",
    "tensorflow",
)
SECONDS = 180


@dataclass(frozen=True)
class Edit:
    """A text of a file, which stands there once, and what takes its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """What is taken out, and the rule that is no longer true without it."""

    rule: str
    what: str
    edits: tuple[Edit, ...]

    @property
    def tests(self) -> str:
        """The beginning of the names of the tests that must see it."""
        return (
            f"test_rule_{self.rule}_" if self.rule.isdigit() else f"test_{self.rule}_"
        )


def mutants(only: Iterable[str]) -> Iterator[Mutant]:
    """The table, or its mutants of some rules."""
    chosen = set(only)
    for entry in tomllib.loads(TABLE.read_text("utf-8"))["mutant"]:
        edits = [Edit(entry["file"], entry["old"], entry["new"])]
        edits += [Edit(**entry["also"])] if "also" in entry else []
        if not chosen or entry["rule"] in chosen:
            yield Mutant(entry["rule"], entry["what"], tuple(edits))


def mutated(mutant: Mutant, package: Path) -> dict[Path, str]:
    """The files that the mutant changes, with their new text.

    Raises:
        ValueError: an old text is not found exactly once.
    """
    texts: dict[Path, str] = {}
    for edit in mutant.edits:
        path = package / edit.file
        text = texts.get(path, path.read_text("utf-8"))
        if text.count(edit.old) != 1:
            raise ValueError(f"found {text.count(edit.old)} times: {edit.old!r}")
        texts[path] = text.replace(edit.old, edit.new)
    return texts


class Failures:
    """A pytest plugin: the names of the tests that failed, written to `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            name = re.split(r"::|\[", report.nodeid)[1]
            os.write(self._descriptor, f"{name}\n".encode())


def run(tree: Path, tests: str) -> tuple[int, list[str]]:
    """The exit status of pytest on `tests` in `tree`, and which of them failed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reading)
        # Whatever happens, this process must not go on as its parent would.
        try:
            os._exit(_tested(tree, tests, writing))
        finally:
            os._exit(70)
    os.close(writing)
    status = _awaited(child)
    with os.fdopen(reading) as names:
        return status, names.read().split()


def _tested(tree: Path, tests: str, writing: int) -> int:
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    folder = tree / RULES.relative_to(ROOT)
    files = [
        str(f) for f in sorted(folder.glob("*.py")) if tests in f.read_text("utf-8")
    ]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    options += ["--import-mode=importlib", "--assert=plain", "-k", tests]
    return int(pytest.main([*options, *files], plugins=[Failures(writing)]))


def _awaited(child: int) -> int:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 1


def verdict(mutant: Mutant, tree: Path) -> tuple[bool, str]:
    """Whether a test saw the mutant, and which, or why not."""
    try:
        texts = mutated(mutant, tree / "beam_pipeline")
    except ValueError as error:
        return False, str(error)
    originals = {path: path.read_text("utf-8") for path in texts}
    for path, text in texts.items():
        path.write_text(text, "utf-8")
    status, failed = run(tree, mutant.tests)
    for path, text in originals.items():
        path.write_text(text, "utf-8")
    if status == pytest.ExitCode.TESTS_FAILED:
        return True, failed[0] if failed else f"no end in {SECONDS} seconds"
    return False, "SURVIVES" if status == 0 else f"pytest ended with {status}"


def main(only: list[str]) -> int:
    """Print the table of mutants; 1 where one survives."""
    sys.dont_write_bytecode = True
    for library in LIBRARIES:
        importlib.import_module(library)
    # Collecting the libraries' garbage takes longer than most of the tests.
    gc.freeze()
    table = list(mutants(only))
    seen = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("beam_pipeline", "tests"):
            cached = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, tree / name, ignore=cached)
        shutil.copy(ROOT / "pyproject.toml", tree)
        for rule in sorted({mutant.tests for mutant in table}):
            if run(tree, rule)[0] != 0:
                print(f"{rule}* does not pass on the package as it is")
                return 1
        print("| rule | file | what was taken out | caught by |\n|---|---|---|---|")
        for mutant in table:
            caught, by = verdict(mutant, tree)
            seen += caught
            file = mutant.edits[0].file
            print(f"| {mutant.rule} | `{file}` | {mutant.what} | `{by}` |", flush=True)
    print(f"\n{seen} of {len(table)} mutants were seen")
    return 0 if seen == len(table) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
