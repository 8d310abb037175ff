"""`{date}` in a path: the day that a run is about."""

from __future__ import annotations

import os
from datetime import date, datetime, timedelta
from string import Formatter

_DAYS_AGO = {"today": 0, "yesterday": 1}


def parse(text: str) -> date:
    """The day that `text` names: `today`, `yesterday`, or as `2026-11-20`.

    The first two are days of this machine's time zone.

    Raises:
        ValueError: it names none.
    """
    if text in _DAYS_AGO:
        # Cameras, exports and cron live in local time.
        return datetime.now().astimezone().date() - timedelta(days=_DAYS_AGO[text])
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no day; give one as 2026-11-20, today or yesterday"
        ) from error


def fill(path: str, day: date) -> str:
    """`path` with `day` in the place of `{date}` or, say, `{date:%Y/%m/%d}`.

    What is found on this machine by that very name keeps its braces.

    Raises:
        ValueError: other braces, and how to write them.
    """
    if os.path.lexists(path):
        return path
    try:
        for _, name, _, conversion in Formatter().parse(path):
            if name not in (None, "date") or conversion is not None:
                raise ValueError(f"{{{name}}} is not known")
        return path.format(date=day)
    except (ValueError, LookupError) as error:
        raise ValueError(
            f"{path}: {error}; in braces only {{date}} and forms such as "
            "{date:%Y/%m/%d} are understood; write {{ and }} for braces in a name"
        ) from error
