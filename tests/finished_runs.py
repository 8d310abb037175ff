"""Finished runs, written without a pipeline: any rows, in the files of a real run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from beam_pipeline import runs, tables
from beam_pipeline.comparison.finished import FinishedRun
from beam_pipeline.records import Outcome, Status, Study
from beam_pipeline.tables import INSTANCES, STUDIES

MODEL = {
    "name": "brightness",
    "version": "1",
    "digest": "sha256:" + "0" * 64,
    "operating_point": "default",
    "thresholds": [0.5],
}


def scored(name: str, score: float, **columns: Any) -> Outcome:
    """A row with a score, of a file whose content follows from its name."""
    defaults: dict[str, Any] = {
        "source_uri": f"/export/{name}",
        "source_bytes": 1000 + sum(name.encode()),
        "source_digest": f"blake3:{name}",
        "sop_instance_uid": "1.2." + ".".join(map(str, name.encode())),
        "status": Status.SCORED,
        "score": score,
        "positive": score >= 0.5,
    }
    return Outcome(**{**defaults, **columns})


def unscored(name: str, status: Status, reason: str, **columns: Any) -> Outcome:
    """A row without a score, of a file that was read no further than its header."""
    missing = {"positive": None, "source_digest": None}
    row = scored(name, 0, status=status, reason=reason, **{**missing, **columns})
    return replace(row, score=None)


def study(uid: str, score: float | None, **columns: Any) -> Study:
    """A study of one image."""
    missing = dict.fromkeys(STUDIES.names)
    counts = {"images": 1, "scored": int(score is not None), "rejected": 0, "errors": 0}
    positive = None if score is None else score >= 0.5
    known = {"study_instance_uid": uid, "score": score, "positive": positive}
    return Study(**{**missing, **counts, **known, **columns})


def write(
    output: Path,
    run_id: str,
    instances: Sequence[Outcome] = (),
    studies: Sequence[Study] = (),
    **document: Any,
) -> FinishedRun:
    """Write a run that has finished; `document` is more of its `run.json`."""
    files = []
    for kind, records, schema in (
        ("instances", instances, INSTANCES),
        ("studies", studies, STUDIES),
    ):
        path = f"{kind}/run={run_id}/part-00000.parquet"
        table = tables.table(records, schema)
        runs.write_bytes(str(output / path), runs.to_parquet([table], table.schema))
        files.append({"path": path, "rows": len(records), "sha256": ""})
    defaults = {
        "run_id": run_id,
        "started": "2026-11-20T01:00:00+00:00",
        "finished": "2026-11-20T01:00:10+00:00",
        "model": MODEL,
        "calibration": None,
        "pseudonyms": None,
        "files": files,
    }
    record = output / "runs" / run_id
    record.mkdir(parents=True)
    (record / "run.json").write_text(json.dumps({**defaults, **document}))
    (record / "_SUCCESS").touch()
    return FinishedRun(str(output), {**defaults, **document})
