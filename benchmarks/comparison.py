"""What `compare` takes for two large runs: `python -m benchmarks.comparison --rows N`.

The runs are of the same N files, with paths, digests and UIDs as long as real ones. In
B the scores differ a little and one file in a hundred has another status; with --moved
its paths are others too, so that digests find the pairs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipeline.tables import INSTANCES, STUDIES

_PART = 500_000
_IN_A_STUDY = 2


def main() -> None:
    """Make the runs, compare them, print seconds and the largest memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--moved", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), "a", asked.rows)
        make(Path(folder), "b", asked.rows, moved=asked.moved)
        command = [sys.executable, "-m", "beam_pipeline", "compare"]
        names = [f"{folder}/runs/{name}" for name in "ab"]
        clock = time.monotonic()
        subprocess.run([*command, *names, f"--rows={folder}/rows.parquet"], check=True)
        seconds = time.monotonic() - clock
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"\n{asked.rows:,} rows: {seconds:.1f} s, at most {most:.2f} GiB")


def make(output: Path, name: str, rows: int, *, moved: bool = False) -> None:
    """Write a finished run `name` of `rows` files below `output`."""
    files = []
    for part, first in enumerate(range(0, rows, _PART)):
        numbers = np.arange(first, min(first + _PART, rows))
        table = instances(numbers, name, moved=moved)
        studies = of_studies(table)
        for kind, content in (("instances", table), ("studies", studies)):
            path = f"{kind}/run={name}/part-{part:05d}.parquet"
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(content, output / path, compression="zstd")
            files.append({"path": path, "rows": len(content), "sha256": ""})
    record = output / "runs" / name
    record.mkdir(parents=True)
    document = {
        "run_id": name,
        "started": "2026-11-20T01:00:00+00:00",
        "finished": "2026-11-20T05:00:00+00:00",
        "model": {"name": "made up", "version": "1", "thresholds": [0.5]},
        "files": files,
    }
    (record / "run.json").write_text(json.dumps(document))
    (record / "_SUCCESS").touch()


def instances(numbers: np.ndarray, name: str, *, moved: bool) -> pa.Table:
    """The rows of some files; the files are the same for every `name`."""
    random = np.random.default_rng([int(numbers[0]), ord(name)])
    same = np.random.default_rng(int(numbers[0]))
    score = np.clip(same.beta(1, 9, len(numbers)), 1e-6, 1 - 1e-6)
    score = 1 / (1 + (1 / score - 1) * np.exp(random.normal(0, 0.2, len(numbers))))
    rejected = same.random(len(numbers)) < 0.1
    rejected |= random.random(len(numbers)) < 0.01
    folder = "/exports/again" if moved else "/exports"
    digests = [hashlib.sha256(number).hexdigest() for number in numbers]
    columns = {
        "source_uri": [
            f"{folder}/2026-11-20/site-03/study-{n // _IN_A_STUDY:08d}/IM-{n:08d}.dcm"
            for n in numbers.tolist()
        ],
        "source_bytes": numbers + 8_000_000,
        "source_digest": pa.array([f"blake3:{each}" for each in digests]),
        "status": np.where(rejected, "REJECTED", "SCORED"),
        "reason": pa.array(np.where(rejected, "LATERAL_VIEW", None)),
        "flags": [["VIEW_UNKNOWN"] if n % 5 == 0 else [] for n in numbers.tolist()],
        "study_instance_uid": [
            f"1.2.840.113619.2.5.1762583153.215519.978957063.{n // _IN_A_STUDY:08d}"
            for n in numbers.tolist()
        ],
        "sop_instance_uid": [
            f"1.2.840.113619.2.5.1762583153.215519.978957063.1.{n:08d}"
            for n in numbers.tolist()
        ],
        "score": pa.array(score, mask=rejected),
        "positive": pa.array(score >= 0.5, mask=rejected),
    }
    return _of(INSTANCES, columns, len(numbers))


def of_studies(table: pa.Table) -> pa.Table:
    """The studies of `instances`, by what `compare` reads of them."""
    found = table.group_by("study_instance_uid").aggregate(
        [("score", "max"), ("positive", "max")]
    )
    columns = {
        "study_instance_uid": found["study_instance_uid"],
        "score": found["score_max"],
        "positive": found["positive_max"],
    }
    return _of(STUDIES, columns, len(found))


def _of(schema: pa.Schema, columns: dict, rows: int) -> pa.Table:
    missing = {field.name: pa.nulls(rows, field.type) for field in schema}
    made = pa.table({**missing, **columns}).select(schema.names)
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    return made.cast(nullable)


if __name__ == "__main__":
    main()
