"""Have memory given back once it is freed.

glibc keeps what threads freed in arenas, eight a core, and Arrow in a pool of its own:
over a night they came to hundreds of megabytes that nothing used.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

import pyarrow as pa

_ARENAS = 2
# <malloc.h>
_M_ARENA_MAX = -8

# The same for a process that is yet to be started.
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": str(_ARENAS),
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


def keep_little() -> None:
    """Have all threads share few arenas, and Arrow take and free its memory there.

    Arenas that there are already stay: call it before other threads are started. Where
    the C library is not glibc it has no such arenas.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
    pa.set_memory_pool(pa.system_memory_pool())


def trim() -> None:
    """Give back what is free inside the arenas."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
