"""Beam's glob rules, for paths and for URIs: `*` stays in a folder, `**` does not."""

from __future__ import annotations

import re

_WILDCARD = re.compile(r"[*?\[]")


def regex(pattern: str) -> re.Pattern[str]:
    """The expression that whole paths match."""
    # Here, because a process that only reads does without Beam.
    from apache_beam.io.filesystem import FileSystem

    return re.compile(FileSystem.translate_pattern(pattern))


def fixed(pattern: str) -> str:
    """What every path that matches begins with."""
    return _WILDCARD.split(pattern, maxsplit=1)[0]


def literal(path: str) -> str:
    """A pattern that `path` alone matches; Beam's have sets of characters, no escape.

    One set stands for both brackets: Python warns of a set that begins with the opening
    one.
    """
    return re.sub(r"([\[\]])|([*?])", lambda m: "[][]" if m[1] else f"[{m[2]}]", path)


def covers(pattern: str, path: str) -> bool:
    """Whether a file at `path` would match `pattern`."""
    return regex(pattern).match(path) is not None


class Ways:
    """Which files match a pattern, and which folders may lead to them."""

    def __init__(self, pattern: str) -> None:
        self._whole = regex(pattern)
        parts = pattern.split("/")
        anywhere = next((i for i, part in enumerate(parts) if "**" in part), None)
        self._ends = anywhere is None
        self._levels = [
            regex("/".join(parts[: depth + 1]))
            for depth in range(len(parts) if anywhere is None else anywhere)
        ]

    def lead_to(self, path: str) -> bool:
        return self._whole.match(path) is not None

    def lead_through(self, folder: str) -> bool:
        folder = folder.removesuffix("/")
        depth = folder.count("/")
        if depth >= len(self._levels) - self._ends:
            return not self._ends
        return self._levels[depth].match(folder) is not None
