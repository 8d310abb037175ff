"""The subcommand `compare`: what differs between two finished runs, and how much."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass

from apache_beam.io.filesystem import BeamIOError

from beam_pipeline import runs
from beam_pipeline.comparison import figures, finished, page
from beam_pipeline.comparison.agreement import Share
from beam_pipeline.comparison.figures import Comparison

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `compare` was asked for.

    Attributes:
        a: the reference: `OUTPUT/runs/ID`, or `OUTPUT` for the newest run there.
        b: the other, likewise.
        json: where to write every figure, or None.
        rows: where to write the rows whose status or decision changed, or None.
        movers: how many of the largest differences to name.
        max_changed_decisions: most of the files scored twice that may be decided
            otherwise.
        max_status_changes: most of the matched files that may have another status.
    """

    a: str
    b: str
    json: str | None
    rows: str | None
    movers: int
    max_changed_decisions: float
    max_status_changes: float


REQUESTED = [field.name for field in dataclasses.fields(Request)]


def run(request: Request) -> list[str]:
    """Compare, write what was asked for, print all of it; the limits that are broken.

    Raises:
        ValueError: a run that has not finished or cannot be read, both are the same,
            or a file that cannot be written.
    """
    a, b = finished.find(request.a), finished.find(request.b)
    if a.path == b.path:
        raise ValueError(
            f"both are the run {a.path}: name another as OUTPUT/runs/ID, or as "
            "OUTPUT~1 the one before the newest"
        )
    found, changed = figures.compare(a, b, request.movers)
    if request.json:
        text = json.dumps(dataclasses.asdict(found), indent=2, ensure_ascii=False)
        _write(request.json, f"{text}\n".encode())
    if request.rows:
        _write(request.rows, runs.to_parquet([changed], changed.schema))
    page.show(found)
    broken = broken_limits(found, request)
    for limit in broken:
        _LOGGER.error("Limit broken: %s", limit)
    return broken


def broken_limits(found: Comparison, request: Request) -> list[str]:
    """Which of the limits the comparison breaks, in words.

    Where a limit is set and nothing is there to hold against it, it is broken: a check
    must not pass because it looked at nothing.
    """
    limits = {
        "max_changed_decisions": (found.decisions.changed, "decided otherwise"),
        "max_status_changes": (found.status_changed, "of another status"),
    }
    judged = (
        _judged(share, getattr(request, name), f"{what}, --{name}")
        for name, (share, what) in limits.items()
    )
    return [message for message in judged if message is not None]


def _judged(share: Share, limit: float, what: str) -> str | None:
    if limit == 1:
        return None
    if share.value is None:
        return f"no file in common to be {what}"
    if share.value > limit:
        return f"{share.count} of {share.of} files ({share.value:.2%}) {what}"
    return None


def _write(path: str, data: bytes) -> None:
    try:
        runs.write_bytes(path, data)
    except (OSError, ValueError, BeamIOError) as error:
        raise ValueError(f"{path} cannot be written: {error}") from error
