"""Imports without the garbage collector, which takes a quarter of their time.

Those of Beam and TensorFlow make a million objects that all stay, and it looks for
garbage among them again and again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within it, in any thread, nothing is looked at."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
