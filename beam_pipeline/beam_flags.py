"""The flags that Beam's Python SDK knows, without importing it.

A mistyped flag is refused at once so; importing Beam takes a second or more.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

_FLAG = re.compile(r"--?\w[\w-]*")
_BEAM = Path("options", "pipeline_options.py")
# Beam's Flink runner has flags that only its Java half knows.
_OURS = Path(__file__).with_name("flink.py")


def beam_flags() -> frozenset[str]:
    """Every flag that Beam's Python SDK knows, as its source adds them to a parser."""
    found = find_spec("apache_beam")
    folders = (found and found.submodule_search_locations) or []
    sources = [_OURS, *(Path(folder) / _BEAM for folder in folders)]
    return frozenset(flag for source in sources for flag in _added(source))


def _added(source: Path) -> Iterator[str]:
    """Each text that is a flag and is given to a call by its place."""
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        for given in node.args if isinstance(node, ast.Call) else ():
            text = given.value if isinstance(given, ast.Constant) else None
            if isinstance(text, str) and _FLAG.fullmatch(text):
                yield text
