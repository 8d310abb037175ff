"""What flags take: each checks a text and gives its value, for argparse.

All raise `argparse.ArgumentTypeError` or ValueError; argparse shows them with the flag.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from pathlib import Path

from beam_pipeline import dates

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


def share(text: str) -> float:
    """A share: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def duration(text: str) -> float:
    """Seconds that a clock can be set to: above 0, at most a day."""
    value = float(text)
    # Clocks cannot be set to any number; a day is more than a file needs.
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 86400")
    return value


def day(text: str) -> str:
    """A day, as ISO 8601 writes it."""
    try:
        return dates.parse(text).isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def metrics_file(text: str) -> Path:
    """An absolute path that node_exporter would read."""
    path = Path(text).absolute()
    if path.suffix != ".prom":
        raise argparse.ArgumentTypeError(
            f"node_exporter reads only names that end with .prom, not {path.name!r}"
        )
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def seconds(text: str) -> float:
    """A number of seconds, 0 or more."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def folder(text: str) -> str:
    """A folder from the root, or a URI."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; is a variable not set?")
    return text if "://" in text else os.path.abspath(text)


def run_id(text: str) -> str:
    """A name that can be one of a folder anywhere."""
    if not _RUN_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name of letters, digits, '_', '-' and '.'"
        )
    return text
