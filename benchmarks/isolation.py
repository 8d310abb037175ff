"""What it costs to read files in processes that may crash, against threads.

    python -m benchmarks.isolation ARCHIVE [ROUNDS]

ARCHIVE is a folder that `benchmarks/archive.py` made. Threads and processes read all of
it in turn, as many of them as there are cores; then bundles of one file, as Flink makes
them, with the pool kept between bundles, as `ReadAhead` keeps it, and with a new one.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from beam_pipeline import manifest, read_ahead
from beam_pipeline.images import rules
from beam_pipeline.manifest import DEFAULT_MODEL
from beam_pipeline.read import Reading
from beam_pipeline.records import Source

_BUNDLES = 20


def main(archive: Path, rounds: int = 5) -> None:
    """Print the medians of `rounds`, and their ratio."""
    model = manifest.load(DEFAULT_MODEL)
    reading = Reading(preparation=model.preparation, rules=rules.compiled(model))
    sources = [Source(str(path)) for path in sorted(archive.iterdir())]
    pool = read_ahead._Pool(reading, None)
    ways: dict[str, Callable[[], object]] = {
        "threads": lambda: _in_threads(reading, sources),
        "processes": lambda: _in_processes(pool, sources),
    }
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(_seconds(way))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"{len(sources)} files, {os.cpu_count()} cores, {rounds} rounds in turn")
    for name, found in seconds.items():
        spread = f"{min(found):.2f} to {max(found):.2f}"
        print(f"  {name:10} {medians[name]:6.2f} s ({spread})")
    print(f"  processes / threads {medians['processes'] / medians['threads']:.3f}")
    _bundles(reading, pool, sources[0])


def _bundles(reading: Reading, pool: read_ahead._Pool, source: Source) -> None:
    kept = [_seconds(lambda: pool.submit(source).result()) for _ in range(_BUNDLES)]
    new = [
        _seconds(lambda: read_ahead._Pool(reading, 1).submit(source).result())
        for _ in range(_BUNDLES // 4)
    ]
    alone = [_seconds(lambda: list(reading(source))) for _ in range(_BUNDLES)]
    print("bundles of one file, median")
    for name, found in (("in this process", alone), ("pool kept", kept), ("new", new)):
        print(f"  {name:16} {1000 * statistics.median(found):7.1f} ms")


def _in_threads(reading: Reading, sources: list[Source]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        for _ in executor.map(lambda source: list(reading(source)), sources):
            pass


def _in_processes(pool: read_ahead._Pool, sources: list[Source]) -> None:
    for future in [pool.submit(source) for source in sources]:
        future.result()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
