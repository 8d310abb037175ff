"""Who scores an archive: this project, the floor and the peers, each as a command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.process import Measured
from benchmarks.summary import FLOOR, OURS


@dataclass(frozen=True)
class Task:
    """What each of them is given.

    Attributes:
        archive: the files.
        output: a folder that does not exist.
        model: a SavedModel, for this project and the floor.
        network: the same network as a .keras file, for the peers.
    """

    archive: Path
    output: Path
    model: Path
    network: Path


@dataclass(frozen=True)
class Contender:
    """A command, and how to know what it did.

    Attributes:
        module: that Python runs.
        arguments: of the command line; the fields of `Task` in braces.
        scored: how many radiographs it scored, by what it left.
    """

    module: str
    arguments: tuple[str, ...]
    scored: Callable[[Task, Measured], int]

    def command(self, task: Task) -> list[str]:
        """What to run."""
        arguments = [each.format(**vars(task)) for each in self.arguments]
        return [sys.executable, "-m", self.module, *arguments]


def _rows_of_ours(task: Task, measured: Measured) -> int:
    statuses = pq.read_table(task.output / "instances", columns=["status"])["status"]
    return int(pc.sum(pc.equal(statuses, "SCORED")).as_py())


def _rows_of_peer(task: Task, measured: Measured) -> int:
    found = pq.read_table(task.output, columns=["path", "score"])
    return len(set(found.filter(pc.is_finite(found["score"]))["path"].to_pylist()))


def _said(task: Task, measured: Measured) -> int:
    return int(json.loads(measured.stdout.splitlines()[-1])["studies"])


def _peer(module: str, *flags: str) -> Contender:
    given = ("{archive}", "{output}", "{network}", *flags)
    return Contender(f"benchmarks.peers.{module}", given, _rows_of_peer)


def _recipe(mode: str) -> Contender:
    return _peer("documented_recipe", "--direct_running_mode", mode)


# What a model costs does not depend on whether it may be used.
_SCORE = ("score", "--input={archive}", "--output={output}", "--model={model}")
CONTENDERS: dict[str, Contender] = {
    OURS: Contender("beam_pipeline", (*_SCORE, "--allow_unblessed"), _rows_of_ours),
    # Beside this project, so that the machine is as fast for both.
    FLOOR: Contender("benchmarks.floor", ("{archive}", "{model}"), _said),
    "beam_in_memory": _recipe("in_memory"),
    "beam_multi_threading": _recipe("multi_threading"),
    "beam_multi_processing": _recipe("multi_processing"),
    "tf_data": _peer("tf_data"),
    "ray_data": _peer("ray_data"),
}
