"""Is a GPU machine right, and is its GPU busy? One page for docs/performance.md.

    make bench-gpu                                   # 1,000 studies
    make bench-gpu BENCH_GPU='--studies 4000 --model models/densenet'

The job scores an archive on the GPU, and once more in a process that sees none: the
logits and decisions of both are held against each other. Then reading alone, without a
model: what the cores could bring to a device that takes no time. Then the model alone:
batch sizes, memory, and what XLA, mixed precision and full float32 would give; the job
uses none of the three. Exit code 0; 1 where the scores differ by more than they may; 2
where TensorFlow sees no GPU. With `--device CPU` the processors take the GPU's part.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from apache_beam.transforms.window import GlobalWindow
from numpy.typing import NDArray

from beam_pipeline import batching, doctor, saved_model
from beam_pipeline.images.eligibility import Rules
from beam_pipeline.manifest import DEFAULT_MODEL
from beam_pipeline.read import Reading
from beam_pipeline.read_ahead import ReadAhead
from beam_pipeline.records import Ready, Source
from benchmarks import archive, variants

NO_GPU = 2
# What the parity of reduced decoding may cost, too: of 99.9 %, and of any.
MOST_OF_NEARLY_ALL, MOST = 0.05, 0.15
FLIPS = 1 / 1000


@dataclass(frozen=True)
class Job:
    """One whole job: its rows in the order of the files, and its `run.json`."""

    seconds: float
    logits: NDArray[np.float64]
    positive: NDArray[np.bool_]
    distance: NDArray[np.float64]
    record: dict[str, Any]

    @property
    def inference(self) -> dict[str, Any]:
        """What `run.json` says of the device."""
        return dict(self.record["inference"])

    @property
    def rate(self) -> float:
        """Studies a second from the first batch to the last, without start-up."""
        span = self.inference["busy_seconds"] + self.inference["idle_seconds"]
        return len(self.positive) / float(span)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the page, and say whether the scores agree."""
    arguments = _parser().parse_args(argv)
    names = saved_model.devices()
    if arguments.device == "GPU" and not names:
        print(
            "bench-gpu: TensorFlow sees no GPU on this machine. It needs NVIDIA's "
            "driver and `pip install -c constraints.txt '.[cuda]'`; `beam-pipeline "
            "doctor` says what it finds. --device CPU tries this script without one.",
            file=sys.stderr,
        )
        return NO_GPU
    name = names[0] if arguments.device == "GPU" else "CPU"
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "archive"
        archive.build(arguments.data, files, arguments.studies)
        reading, inputs = read_alone(files, arguments.model)
        ours = job(files, arguments.model, Path(folder) / "device")
        reference = job(
            files, arguments.model, Path(folder) / "cpu", CUDA_VISIBLE_DEVICES="-1"
        )
    print(page(name, ours, reference, reading))
    print(of_model(name, arguments.model, inputs))
    return 0 if agrees(ours, reference) else 1


def job(files: Path, model: Path, output: Path, **environment: str) -> Job:
    """Score `files` in a process of its own; every file must have a score."""
    command = [sys.executable, "-m", "beam_pipeline", "score", f"--input={files}"]
    command += [f"--output={output}", f"--model={model}", "--no_eligibility"]
    started = time.perf_counter()
    subprocess.run(
        # What a model costs does not depend on whether it may be used.
        [*command, "--allow_unblessed"],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    seconds = time.perf_counter() - started
    table = pq.read_table(output / "instances").sort_by("source_uri")
    if set(table["status"].to_pylist()) != {"SCORED"}:
        sys.exit("bench-gpu: the job did not score every file")
    (record,) = output.glob("runs/*/run.json")
    scores = table["score"].to_numpy() - table["threshold"].to_numpy()
    return Job(
        seconds,
        np.array(table["logits"].to_pylist()),
        np.array(table["positive"].to_pylist()),
        np.abs(scores),
        json.loads(record.read_text()),
    )


def read_alone(files: Path, model: Path) -> tuple[float, NDArray[np.uint8]]:
    """Studies a second that reading brings on its own, and the model inputs."""
    preparation = saved_model.manifests.load(model).preparation
    reader = ReadAhead(Reading(preparation=preparation, rules=Rules(())))
    reader.setup()
    sources = [Source(str(path)) for path in sorted(files.iterdir())]
    # The processes have started when the first files are read.
    for source in sources[: 2 * (os.cpu_count() or 1)]:
        list(reader.process(source, 0, GlobalWindow()))
    list(reader.finish_bundle())
    started = time.perf_counter()
    found = [e for s in sources for e in reader.process(s, 0, GlobalWindow())]
    found += reader.finish_bundle()
    seconds = time.perf_counter() - started
    images = [e.value.image for e in found if isinstance(e.value, Ready)]
    return len(images) / seconds, np.stack(images)


def differences(ours: Job, reference: Job) -> NDArray[np.float64]:
    """The largest difference of a logit, image by image."""
    return np.asarray(np.abs(ours.logits - reference.logits).max(axis=1))


def agrees(ours: Job, reference: Job) -> bool:
    """Whether both score alike, as nearly as two devices do."""
    found = differences(ours, reference)
    flips = np.count_nonzero(ours.positive != reference.positive)
    return bool(
        found.max() <= MOST
        and np.quantile(found, 0.999) <= MOST_OF_NEARLY_ALL
        and flips <= FLIPS * len(found)
    )


def page(name: str, ours: Job, reference: Job, reading: float) -> str:
    """The section of docs/performance.md, without what follows for the model."""
    found = differences(ours, reference)
    flipped = ours.positive != reference.positive
    flips = f"{np.count_nonzero(flipped)} of {len(found)}"
    if flipped.any():
        flips += f", at most {reference.distance[flipped].max():.2g} from the threshold"
    rows = {
        "whole job, from the first batch to the last": f"{ours.rate:.1f} studies/s",
        "the same with start-up": f"{len(found) / ours.seconds:.1f} studies/s",
        "reading alone: what these cores bring": f"{reading:.1f} studies/s",
        "the job on the processors alone": f"{reference.rate:.1f} studies/s",
        "share of time in which the device waited": _share(ours),
        "the same on the processors alone": _share(reference),
        "images at once": str(ours.inference["devices"][0]["batch_size"]),
        "largest difference of a logit": f"{found.max():.2g}",
        "decisions that differ": flips,
    }
    lines = [
        "## GPU",
        "",
        f"`make bench-gpu`, {len(found)} studies, on {_machine(name)}",
    ]
    lines += ["", "| | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {k} | {v} |" for k, v in rows.items())])


def of_model(name: str, where: Path, inputs: NDArray[np.uint8]) -> str:
    """What the model does on its own: by batch size, and by how it is compiled."""
    model = saved_model.load(where)
    memory = variants.Memory(is_gpu=name != "CPU")
    lines = ["", "| images at once | images/s | peak memory |", "|---|---|---|"]
    rates: dict[int, float] = {}
    for size in batching.SIZES:
        memory.reset()
        rates |= batching.rates(model.infer, inputs.shape[1:], [size])
        if size in rates:
            lines.append(f"| {size} | {rates[size]:.0f} | {memory.peak()} |")
    size = batching.smallest_fast(rates)
    plain = variants.logits(model.infer, inputs, size)
    lines += ["", f"| {size} at once | images/s | largest difference of a logit |"]
    lines += ["|---|---|---|"]
    for variant, infer in variants.of(where, model):
        rate = batching.rates(infer, inputs.shape[1:], [size])[size]
        differs = np.abs(variants.logits(infer, inputs, size) - plain).max()
        lines.append(f"| {variant} | {rate:.0f} | {differs:.2g} |")
    return "\n".join(lines)


def _share(job: Job) -> str:
    return f"{job.inference['idle_share']:.0%}"


def _machine(name: str) -> str:
    versions = doctor.versions()
    build = saved_model.tensorflow().sysconfig.get_build_info()
    cuda = f", CUDA {build['cuda_version']}" if "cuda_version" in build else ""
    return (
        f"{name} with {len(os.sched_getaffinity(0))} cores of {_processor()}; Python "
        f"{platform.python_version()}, TensorFlow {versions['tensorflow']}{cuda}, "
        f"version {versions['radiograph-scorer']}:"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path("../shared/data/chest_xray_full")
    parser.add_argument("--data", type=Path, default=data, help="folder of .jpeg files")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--device", choices=("GPU", "CPU"), default="GPU")
    return parser


if __name__ == "__main__":
    sys.exit(main())
