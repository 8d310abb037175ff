"""Read the newest run's Parquet, as anyone may: `python demo/show.py RESULTS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FIRST = 5


def main(results: Path) -> None:
    """Print the newest complete run below `results`."""
    run = newest(results)
    record = json.loads((run / "run.json").read_text())
    studies = pq.read_table(results / "studies", filters=pc.field("run") == run.name)
    print("\nStudies to look at first")
    for study in first(studies):
        mark = "positive" if study["positive"] else "negative"
        uid = study["study_instance_uid"]
        print(f"  {study['score']:.3f}  {mark}  {study['scored']} images  {uid}")
    print("\nThe Parquet lies in")
    for file in record["files"]:
        print(f"  {results / file['path']}")


def newest(results: Path) -> Path:
    """The folder of the last complete run."""
    complete = [path.parent for path in results.glob("runs/*/_SUCCESS")]
    return max(complete, key=lambda run: (run / "_SUCCESS").stat().st_mtime)


def first(studies: pa.Table) -> list[dict]:
    """The studies with the highest scores."""
    scored = studies.filter(pc.field("scored") > 0)
    return scored.sort_by([("score", "descending")]).slice(0, FIRST).to_pylist()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
