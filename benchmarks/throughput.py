"""Studies per second: this project, the floor and every peer, side by side.

    make bench                          # the mix, 100 and 1,000 studies, five rounds
    make bench BENCH='--encodings each --studies 50 250'    # each encoding alone
    make bench BENCH='--contenders ours floor --studies 100 400 --rounds 3'
    make bench BENCH='--report benchmarks/results/throughput-….jsonl'

All take turns within a round, each in a fresh process, because the machine's speed
drifts; the next round begins with another one. Before each run all files are read once,
so that they come from memory for everybody, as far as it holds them; `--cold` has all
forgotten instead. Every run is written to a file of JSON lines when it ends: what was
killed can still be reported, and what failed is told and costs the others nothing.

Archives are built in a temporary folder, one after the other: 9 GB for 1,000 studies of
the mix. With `--archives` they stay for the next time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from beam_pipeline.manifest import DEFAULT_MODEL
from benchmarks import archive, machine, process, summary
from benchmarks.archive import Mixture
from benchmarks.contenders import CONTENDERS, Contender, Task
from benchmarks.encodings import ENCODINGS, MIX
from benchmarks.process import Measured
from benchmarks.summary import Run

RESULTS = Path("benchmarks/results")
PLUGINS = "pydicom_plugins"
_DECODED_OF_EACH = 3


@dataclass(frozen=True)
class Workload:
    """Archives of one mixture, of all sizes."""

    name: str
    mixture: Mixture

    @property
    def title(self) -> str:
        """The mixture in words."""
        size = "x".join(map(str, self.mixture.size or ("original size",)))
        share = self.mixture.ineligible
        return f"{self.name}, {size}" + (f", {share:.0%} ineligible" if share else "")


@dataclass(frozen=True)
class Setting:
    """What all measurements share.

    Attributes:
        arguments: the command line.
        folder: where archives and outputs are.
        network: the network of the model as a .keras file.
        record: the file of JSON lines.
    """

    arguments: argparse.Namespace
    folder: Path
    network: Path
    record: Path

    def note(self, kind: str, **fields: object) -> None:
        """Write a line that stays whatever comes."""
        with self.record.open("a") as lines:
            lines.write(json.dumps({"kind": kind, **fields}) + "\n")
        print(json.dumps({"kind": kind, **fields}), file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print, or print what was measured before."""
    arguments = _parser().parse_args()
    try:
        records = arguments.report or [measure(arguments)]
        print(summary.report(records))
    except (ValueError, OSError) as error:
        sys.exit(f"throughput: {error}")


def measure(arguments: argparse.Namespace) -> Path:
    """Run what the command line asks for; the file of what was found.

    Raises:
        ValueError: a setting that cannot be measured.
    """
    workloads = _workloads(arguments)
    if len(set(arguments.studies)) < 2:
        raise ValueError("--studies: give two sizes or more; a cost is a difference")
    RESULTS.mkdir(parents=True, exist_ok=True)
    record = RESULTS / f"throughput-{datetime.now(UTC):%Y%m%dT%H%M%S}.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "network.keras"
        setting = Setting(arguments, Path(folder), network, record)
        setting.note("machine", **machine.described())
        _write_network(setting)
        for workload in workloads:
            _measure_workload(setting, workload)
        if PLUGINS in arguments.contenders:
            _measure_decoding(setting)
    return record


def _workloads(arguments: argparse.Namespace) -> list[Workload]:
    asked = arguments.encodings
    if asked == ["each"]:
        asked = list(ENCODINGS)
    known = {"mix": MIX, **{name: (name,) for name in ENCODINGS}}
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ValueError(
            f"--encodings {' '.join(unknown)}: give `each`, or some of "
            + ", ".join(known)
        )
    return [Workload(n, archive.mixture(arguments, known[n])) for n in asked]


def _write_network(setting: Setting) -> None:
    command = [sys.executable, "-m", "benchmarks.peers.network"]
    places = [str(setting.arguments.model), str(setting.network)]
    made = process.run([*command, *places])
    if made.returncode:
        raise ValueError(f"the peers' network was not made: {_last_line(made)}")


def _measure_workload(setting: Setting, workload: Workload) -> None:
    sizes = sorted(set(setting.arguments.studies))
    archives = _archives(setting, workload, sizes)
    names = [name for name in setting.arguments.contenders if name in CONTENDERS]
    for number in range(setting.arguments.rounds):
        for size in sizes:
            for name in turned(names, number):
                run = _run(setting, workload, archives[size], (name, number, size))
                setting.note("run", **dataclasses.asdict(run))
    if setting.arguments.archives is None:
        for built in archives.values():
            shutil.rmtree(built)


def turned(names: Sequence[str], number: int) -> list[str]:
    """The same order, begun with the one of that number."""
    start = number % len(names) if names else 0
    return [*names[start:], *names[:start]]


def _archives(
    setting: Setting, workload: Workload, sizes: Sequence[int]
) -> dict[int, Path]:
    """The largest archive, and the others as links to its first files."""
    arguments = setting.arguments
    parts = [workload.name, arguments.size, arguments.ineligible, arguments.distinct]
    folder = (arguments.archives or setting.folder) / "-".join(map(str, parts))
    found = {size: folder / str(size) for size in sizes}
    largest = found[sizes[-1]]
    if not largest.exists():
        unfinished = largest.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        archive.build(arguments.data, unfinished, sizes[-1], workload.mixture)
        unfinished.rename(largest)
    files = sorted(largest.iterdir())
    for size in sizes[:-1]:
        shutil.rmtree(found[size], ignore_errors=True)
        found[size].mkdir()
        for path in files[:size]:
            os.link(path, found[size] / path.name)
    return found


def _run(
    setting: Setting, workload: Workload, files: Path, what: tuple[str, int, int]
) -> Run:
    name, number, size = what
    _settle(files, cold=setting.arguments.cold)
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        output = Path(folder) / "output"
        task = Task(files, output, setting.arguments.model, setting.network)
        contender = CONTENDERS[name]
        measured = process.run(contender.command(task), setting.arguments.timeout)
        error = objection(contender, task, measured, workload.mixture.eligible(size))
    return Run(
        workload=workload.title,
        contender=name,
        round=number,
        studies=size,
        seconds=measured.seconds,
        cpu_seconds=measured.cpu_seconds,
        peak_bytes=measured.peak_bytes,
        error=error,
    )


def objection(
    contender: Contender, task: Task, measured: Measured, expected: int
) -> str:
    """Why a run does not count; empty where it does."""
    if measured.returncode:
        return f"exit code {measured.returncode}: {_last_line(measured)}"
    try:
        scored = contender.scored(task, measured)
    except (OSError, ValueError, LookupError) as error:
        return f"what it left cannot be read: {type(error).__name__}: {error}"
    return "" if scored == expected else f"scored {scored} of {expected}"


def _settle(files: Path, *, cold: bool) -> None:
    """Have the system hold the files in memory, or forget them."""
    for path in sorted(files.iterdir()):
        with path.open("rb") as stream:
            if cold:
                os.fdatasync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while stream.read(1 << 20):
                    pass


def _measure_decoding(setting: Setting) -> None:
    """The plug-ins of pydicom, on a few files of each encoding."""
    files = setting.folder / PLUGINS
    mixture = archive.mixture(setting.arguments, list(ENCODINGS))
    studies = _DECODED_OF_EACH * len(ENCODINGS)
    archive.build(setting.arguments.data, files, studies, mixture)
    command = [sys.executable, "-m", f"benchmarks.peers.{PLUGINS}", str(files)]
    for number in range(setting.arguments.rounds):
        measured = process.run(command)
        if measured.returncode:
            raise ValueError(f"decoding alone failed: {_last_line(measured)}")
        found = json.loads(measured.stdout.splitlines()[-1])
        setting.note("decoding", round=number, milliseconds=found)


def _last_line(measured: Measured) -> str:
    lines = [line for line in measured.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was said"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path("../shared/data/chest_xray_full")
    names = [*CONTENDERS, PLUGINS]
    parser.add_argument("--data", type=Path, default=data, help="folder of .jpeg files")
    parser.add_argument("--studies", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"of {', '.join(names)}; default all",
    )
    parser.add_argument(
        "--encodings",
        nargs="+",
        default=["mix"],
        metavar="NAME",
        help=f"archives: mix, each, or some of {', '.join(ENCODINGS)}",
    )
    archive.add_arguments(parser)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--cold", action="store_true", help="read files from the disk")
    parser.add_argument("--archives", type=Path, help="keep archives in this folder")
    parser.add_argument(
        "--timeout", type=float, default=3600, help="seconds of a run; default 3600"
    )
    parser.add_argument(
        "--report",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing; print what these files of an earlier time hold",
    )
    return parser


if __name__ == "__main__":
    main()
