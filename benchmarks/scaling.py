"""One worker against two on a cluster of Flink, and what crosses its network.

    python -m benchmarks.scaling                   # 500 and 2,000 studies
    python -m benchmarks.scaling --studies 100 400

Each TaskManager has a core of its own, and its Python worker and that worker's reading
process run on the same core. What a study costs is the difference between two archive
sizes, so that start-up does not count: seconds of the task that reads and scores, by
Flink's own clock, and bytes that its tasks wrote for tasks that may be on other
machines. Only on an idle machine do the seconds mean anything.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.flink import cluster as clusters
from tests.flink.cluster import Cluster
from tests.flink.install import CACHE, Installation, installed


@dataclass(frozen=True)
class Measured:
    """One job, or the difference of two.

    Attributes:
        studies: how many.
        seconds: of the task that reads and scores.
        exchanged: bytes that tasks wrote for tasks that may be elsewhere.
    """

    studies: int
    seconds: float
    exchanged: int

    def without(self, smaller: Measured) -> Measured:
        return Measured(
            self.studies - smaller.studies,
            self.seconds - smaller.seconds,
            self.exchanged - smaller.exchanged,
        )


def main() -> None:
    """Measure both, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, nargs=2, default=(500, 2000))
    sizes = parser.parse_args().studies
    installation = installed(CACHE)
    cores = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        archives = [clusters.write_archive(root / f"{n}", n) for n in sizes]
        one = study_cost(installation, root / "one", cores[:1], archives)
        two = study_cost(installation, root / "two", cores, archives)
    for name, cost in (("1 worker", one), ("2 workers", two)):
        print(
            f"{name:10} {cost.studies / cost.seconds:6.1f} studies/s  "
            f"{cost.exchanged / cost.studies:6.0f} bytes a study between tasks"
        )
    print(f"ratio      {one.seconds / two.seconds:6.2f}")


def study_cost(
    installation: Installation, folder: Path, cores: list[int], archives: list[Path]
) -> Measured:
    """What the second archive costs more than the first."""
    with clusters.running(installation, folder, cores) as cluster:
        first, second = (measured(cluster, folder, archive) for archive in archives)
    return second.without(first)


def measured(cluster: Cluster, folder: Path, archive: Path) -> Measured:
    """Score `archive` on `cluster`."""
    command = [sys.executable, "-m", "beam_pipeline", "score", f"--input={archive}"]
    command += [f"--output={folder / f'scored-{archive.name}'}", *cluster.flags]
    command += clusters.process_flags(folder / "beam-pipeline-worker")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    job = _newest(cluster)
    (scoring,) = [each for each in job["vertices"] if "Score" in each["name"]]
    exchanged = _exchanged_bytes(job, cluster.ask(f"/jobs/{job['jid']}/plan"))
    studies = sum(1 for _ in archive.iterdir())
    found = Measured(studies, scoring["duration"] / 1000, exchanged)
    print(found, flush=True)
    return found


def _exchanged_bytes(job: Any, plan: Any) -> int:
    """What tasks wrote for tasks that need not be beside them: all but `Forward`."""
    apart = {
        source["id"]
        for node in plan["plan"]["nodes"]
        for source in node.get("inputs", ())
        if source["ship_strategy"] != "Forward"
    }
    return sum(
        vertex["metrics"]["write-bytes"]
        for vertex in job["vertices"]
        if vertex["id"] in apart
    )


def _newest(cluster: Cluster) -> Any:
    jobs = cluster.ask("/jobs/overview")["jobs"]
    newest = max(jobs, key=lambda job: job["start-time"])
    return cluster.ask(f"/jobs/{newest['jid']}")


if __name__ == "__main__":
    main()
