"""Listing a bucket, prefix by prefix, and page by page within each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from beam_pipeline.records import Source
from beam_pipeline.storage import patterns
from beam_pipeline.storage.patterns import Ways

# Prefixes are looked for so many levels down, or until there are so many of them: a day
# of an export has its studies as folders, and an archive its years and days.
_LEVELS = 2
_ENOUGH = 64
# A folder with more files than these is listed as it is: to page through them for the
# folders that may come behind costs as much. Folders of folders are paged through.
_MOST_FILES = 1_000
_MOST_FOLDERS = 100_000


@dataclass(frozen=True)
class Page:
    """One answer of a bucket.

    Attributes:
        sources: its objects.
        prefixes: URIs, with a slash at the end, of what was asked to be kept together.
    """

    sources: tuple[Source, ...]
    prefixes: tuple[str, ...] = ()


# (URI that what is listed begins with, whether to keep together what lies below the
# next slash) → pages.
Pages = Callable[[str, bool], Iterator[Page]]


def normalise(pattern: str, pages: Pages) -> str:
    """`pattern`, where the name of an object stands for it, and a folder for all in it.

    Brackets and stars of a name that is there stand for themselves.
    """
    if pattern.count("/") > 2 and _begins_with(pattern, pages) == pattern:
        return patterns.literal(pattern)
    folder = pattern.removesuffix("/") + "/"
    if _begins_with(folder, pages) is not None:
        return patterns.literal(folder) + "**"
    return pattern


def divide(pattern: str, pages: Pages) -> Iterator[Source | str]:
    """Prefixes that together hold all that matches, and what lies beside them."""
    ways = Ways(pattern)
    waiting = [patterns.fixed(pattern)]
    for _ in range(_LEVELS):
        if len(waiting) >= _ENOUGH:
            break
        below: list[str] = []
        for prefix in waiting:
            level = _level(prefix, pages)
            if level is None:
                yield prefix
                continue
            yield from _matching(level.sources, ways)
            below += filter(ways.lead_through, level.prefixes)
        waiting = below
    yield from waiting


def list_part(pattern: str, prefix: str, pages: Pages) -> Iterator[Source]:
    """What matches `pattern` among all that begins with `prefix`."""
    ways = Ways(pattern)
    for page in pages(prefix, False):
        yield from _matching(page.sources, ways)


def _matching(sources: tuple[Source, ...], ways: Ways) -> Iterator[Source]:
    for source in sources:
        # Consoles make an empty object where somebody makes a folder.
        is_folder = source.uri.endswith("/") and not source.size
        if not is_folder and ways.lead_to(source.uri):
            yield source


def _level(prefix: str, pages: Pages) -> Page | None:
    """What lies directly below `prefix`; None where that is too much to hold."""
    sources: list[Source] = []
    prefixes: list[str] = []
    for page in pages(prefix, True):
        sources += page.sources
        prefixes += page.prefixes
        if len(sources) > _MOST_FILES or len(prefixes) > _MOST_FOLDERS:
            return None
    return Page(tuple(sources), tuple(prefixes))


def _begins_with(beginning: str, pages: Pages) -> str | None:
    """The first URI of those that begin so; a bucket gives them in order."""
    for page in pages(beginning, False):
        for source in page.sources:
            return source.uri
    return None
