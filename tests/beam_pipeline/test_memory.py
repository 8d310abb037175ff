"""Does glibc keep an arena for every thread, and Arrow what it freed?"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from beam_pipeline import memory

# Threads that are all alive take an arena each, of which there are eight a core; glibc
# tells of each as <heap nr="…">.
_PROBE = """
import ctypes, sys, threading
import pyarrow as pa
{prelude}
together = threading.Barrier(12)
def take():
    together.wait()
    ctypes.CDLL(None).malloc(1000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
print(pa.default_memory_pool().backend_name, file=sys.stderr)
"""


def probe(prelude: str = "", **environment: str) -> tuple[int, str]:
    """How many arenas a process with many threads has, and whose pool Arrow takes."""
    keys = memory.ENVIRONMENT.keys()
    clean = {k: v for k, v in os.environ.items() if k not in keys}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE.format(prelude=prelude)],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.count("<heap nr="), done.stderr.split()[-1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="has no such arenas")
def test_threads_share_few_arenas_and_arrow_has_no_pool_of_its_own() -> None:
    arenas, pool = probe()
    assert arenas > 2
    assert pool != "system"
    prelude = "from beam_pipeline import memory; memory.keep_little()"
    assert probe(prelude) == (2, "system")
    assert probe(**memory.ENVIRONMENT) == (2, "system")
