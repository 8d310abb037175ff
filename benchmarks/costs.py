"""Time and money for an archive, from what an image costs and what machines cost.

    python -m benchmarks.costs                              # the table of docs/costs.md
    python -m benchmarks.costs --studies 400000 --workers 4 --vcpu_hour 0.031611

Every figure is a flag. The defaults are what docs/costs.md says of them: measured where
that was possible, and otherwise assumptions to be replaced by your own.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass

HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the answer depends on. Prices are US dollars."""

    studies: int = 10_000_000
    images_per_study: float = 2.0
    megabytes: float = 2.3
    read_ms: float = 84.0
    model_cpu_ms: float = 9.0
    model_gpu_ms: float = 1.0
    busy: float = 0.8
    workers: int = 50
    start_minutes: float = 10.0
    vcpu_hour: float = 0.056
    memory_hour: float = 0.003557
    disk_hour: float = 0.000054
    gpu_hour: float = 0.67
    flexrs_discount: float = 0.4
    requests_per_file: float = 3.0
    requests_per_thousand: float = 0.0004
    egress_gb: float = 0.0
    shuffle_kb: float = 2.0
    shuffle_gb: float = 0.011

    @property
    def images(self) -> float:
        """Files to score."""
        return self.studies * self.images_per_study


@dataclass(frozen=True)
class Machine:
    """A worker: cores as Google sells them, memory and disk in GB."""

    name: str
    vcpus: int
    memory: int
    disk: int
    gpus: int = 0
    flexrs: bool = False


MACHINES = (
    Machine("n2-standard-8", 8, 32, 25),
    Machine("n2-standard-8, FlexRS", 8, 32, 25, flexrs=True),
    Machine("g2-standard-8, one L4", 8, 32, 50, gpus=1),
    Machine("g2-standard-16, one L4", 16, 64, 50, gpus=1),
    Machine("g2-standard-32, one L4", 32, 128, 50, gpus=1),
)


@dataclass(frozen=True)
class Bill:
    """What an archive takes on machines of one kind."""

    rate: float
    bound: str
    hours: float
    machines: float
    storage: float

    @property
    def total(self) -> float:
        """All of it, in dollars."""
        return self.machines + self.storage


def bill(machine: Machine, inputs: Inputs) -> Bill:
    """The formula of docs/costs.md."""
    if machine.gpus:
        reading = 1000 * machine.vcpus / inputs.read_ms
        model = 1000 * machine.gpus / inputs.model_gpu_ms
        rate, bound = min((reading, "reading"), (model, "GPU"))
    else:
        rate = 1000 * machine.vcpus / (inputs.read_ms + inputs.model_cpu_ms)
        bound = "cores"
    rate *= inputs.busy
    scoring = inputs.images / (rate * inputs.workers * HOUR)
    hours = scoring + inputs.start_minutes / 60
    return Bill(
        rate,
        bound,
        hours,
        hours * inputs.workers * hourly(machine, inputs),
        extra(inputs),
    )


def hourly(machine: Machine, inputs: Inputs) -> float:
    """Dollars an hour for one machine."""
    cores = machine.vcpus * inputs.vcpu_hour + machine.memory * inputs.memory_hour
    share = 1 - inputs.flexrs_discount if machine.flexrs else 1
    rest = machine.disk * inputs.disk_hour + machine.gpus * inputs.gpu_hour
    return cores * share + rest


def extra(inputs: Inputs) -> float:
    """Dollars for requests, for bytes that leave the region and for the shuffle."""
    requests = inputs.requests_per_file / 1000 * inputs.requests_per_thousand
    leaving = inputs.megabytes / 1e3 * inputs.egress_gb
    shuffle = inputs.shuffle_kb / 1e6 * inputs.shuffle_gb
    return inputs.images * (requests + leaving + shuffle)


def table(inputs: Inputs) -> str:
    """One row for each kind of machine, as Markdown."""
    lines = [
        "| machine | images/s each | bound by | hours | machines | storage | total "
        "| 1,000 studies |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for machine in MACHINES:
        found = bill(machine, inputs)
        each = 1000 * found.total / inputs.studies
        lines.append(
            f"| {machine.name} | {found.rate:.0f} | {found.bound} | {found.hours:.1f} "
            f"| ${found.machines:,.0f} | ${found.storage:,.0f} | ${found.total:,.0f} "
            f"| ${each:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table for the figures on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for each in dataclasses.fields(Inputs):
        kind = int if isinstance(each.default, int) else float
        parser.add_argument(f"--{each.name}", type=kind, default=each.default)
    print(table(Inputs(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
