"""Studies per second: this project, the documented Beam recipe, and the floor.

    make bench                            # 200 and 800 studies, three rounds
    make bench BENCH='--studies 24 48 --rounds 1'

The cost of a study without start-up is the difference between two archive sizes,
(t(N2) - t(N1)) / (N2 - N1), each run in a fresh process. The three take turns within a
round, because the machine's speed drifts. The floor has no start-up to take off: it
times its own two halves, on the larger archive. Peak memory is that of the process and
its children, read every 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import psutil
import pyarrow.parquet as pq

from beam_pipeline import manifest as manifests
from beam_pipeline.manifest import DEFAULT_MODEL
from benchmarks import archive
from trainer import architectures
from trainer.recipes import Augmentation, Recipe

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Measured:
    """One process: what it printed, how long it took, how much memory it held."""

    stdout: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Setting:
    """What all measurements share."""

    folder: Path
    sizes: tuple[int, int]
    model: Path
    keras_model: Path

    def archive(self, size: int) -> Path:
        """The archive of so many studies."""
        return self.folder / f"archive-{size}"


def main() -> None:
    """Build two archives, measure in turns, print the comparison."""
    arguments = _parser().parse_args()
    small, large = sorted(arguments.studies)
    with tempfile.TemporaryDirectory() as folder:
        keras_model = Path(folder) / "network.keras"
        setting = Setting(Path(folder), (small, large), arguments.model, keras_model)
        for size in setting.sizes:
            archive.build(arguments.data, setting.archive(size), size)
        write_keras(setting)
        rounds = []
        for number in range(arguments.rounds):
            rounds.append(measure(setting, number))
            print(json.dumps(rounds[-1]), flush=True)
    print(report(rounds, setting.sizes))


def measure(setting: Setting, number: int) -> dict[str, float]:
    """One round: both sizes of both pipelines, then the floor."""
    found: dict[str, float] = {}
    for size in setting.sizes:
        recipe = documented_recipe(setting, size, number)
        ours = this_project(setting, size, number)
        found[f"recipe seconds {size}"] = recipe.seconds
        found[f"recipe peak {size}"] = recipe.peak_bytes
        found[f"ours seconds {size}"] = ours.seconds
        found[f"ours peak {size}"] = ours.peak_bytes
    large = setting.sizes[1]
    command = ["-m", "benchmarks.floor", setting.archive(large), setting.model]
    halves = json.loads(run(command).stdout.splitlines()[-1])
    found["floor"] = (halves["decode"] + halves["infer"]) / large
    found["floor decode"] = halves["decode"] / large
    return found


def documented_recipe(setting: Setting, size: int, number: int) -> Measured:
    """The recipe on one archive; it must have scored every file."""
    output = setting.folder / f"recipe-{size}-{number}"
    script = HERE / "documented_recipe.py"
    measured = run([script, setting.archive(size), output, setting.keras_model])
    rows = sum(pq.read_metadata(path).num_rows for path in output.iterdir())
    _require(rows == size, f"the documented recipe scored {rows} of {size}")
    return measured


def this_project(setting: Setting, size: int, number: int) -> Measured:
    """The job on one archive; it must have scored every file."""
    output = setting.folder / f"ours-{size}-{number}"
    # What a model costs does not depend on whether it may be used.
    flags = ["--input", setting.archive(size), "--output", output, "--allow_unblessed"]
    measured = run(["-m", "beam_pipeline", "score", *flags, "--model", setting.model])
    statuses = pq.read_table(output / "instances")["status"].to_pylist()
    _require(statuses == ["SCORED"] * size, "this project did not score every file")
    return measured


def run(command: list[object]) -> Measured:
    """Run Python with `command` and watch it."""
    arguments = [sys.executable, *map(str, command)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": "."}
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as stdout,
        subprocess.Popen(arguments, stdout=stdout, env=environment) as process,
    ):
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory(psutil.Process(process.pid)))
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        stdout.seek(0)
        _require(process.returncode == 0, f"{arguments} failed")
        return Measured(stdout.read(), seconds, peak)


def _memory(process: psutil.Process) -> int:
    try:
        family = [process, *process.children(recursive=True)]
        return sum(each.memory_info().rss for each in family)
    except psutil.NoSuchProcess:
        return 0


def write_keras(setting: Setting) -> None:
    """The network of the model, as the .keras file that Beam's own handler wants.

    Its weights are random: they cost the same time.
    """
    fields = dict(manifests.load(setting.model).recipe)
    fields["augmentation"] = Augmentation(**fields["augmentation"])
    classes = len(manifests.load(setting.model).classes)
    network = architectures.build(Recipe(**fields), classes, weights=None)
    keras.Model(network.input, network.outputs[0]).save(setting.keras_model)


def report(rounds: list[dict[str, float]], sizes: tuple[int, int]) -> str:
    """Medians over the rounds, with the lowest and the highest."""
    small, large = sizes

    def cost(name: str, found: dict[str, float]) -> float:
        seconds = found[f"{name} seconds {large}"] - found[f"{name} seconds {small}"]
        return seconds / (large - small)

    recipe = [1 / cost("recipe", found) for found in rounds]
    ours = [1 / cost("ours", found) for found in rounds]
    floor = [1 / found["floor"] for found in rounds]
    lines = [
        f"studies/s, {small} to {large} studies, {len(rounds)} rounds: median (range)",
        f"  a  documented recipe  {_spread(recipe)}",
        f"  b  this project       {_spread(ours)}",
        f"  c  floor              {_spread(floor)}",
        f"  b/a  {_spread([b / a for a, b in zip(recipe, ours, strict=True)])}",
        f"  b/c  {_spread([b / c for c, b in zip(floor, ours, strict=True)])}",
        "peak memory, MB",
    ]
    for name in ("recipe", "ours"):
        for size in sizes:
            peaks = [found[f"{name} peak {size}"] / 1e6 for found in rounds]
            lines.append(f"  {name:6} {size:5} studies  {_spread(peaks)}")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    median = statistics.median(values)
    return f"{median:8.2f} ({min(values):.2f}–{max(values):.2f})"


def _require(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"throughput: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path("../shared/data/chest_xray_full")
    parser.add_argument("--data", type=Path, default=data, help="folder of .jpeg files")
    parser.add_argument("--studies", type=int, nargs=2, default=(200, 800))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    return parser


if __name__ == "__main__":
    main()
