"""What a finished run's `run.json` says: in a few lines, and held against limits."""

from __future__ import annotations

from typing import Any

from beam_pipeline.options import ScoringOptions


def text(document: dict[str, Any], output: str, seconds: float) -> str:
    """What a person wants to know when a run has ended, in a few lines."""
    lines = [f"{document['listed']} files in {seconds:.1f} s"]
    for status, count in document["statuses"].items():
        lines.append(f"  {count:>9,} {status}")
        for reason, n in document["reasons"].get(status, {}).items():
            lines.append(f"  {n:>18,} {reason}")
    lines.append(f"run {document['run_id']} is complete in {output}")
    return "\n".join(lines)


def broken_limits(document: dict[str, Any], options: ScoringOptions) -> list[str]:
    """What in a finished run's `run.json` breaks a limit that the options set."""
    listed = max(document["listed"], 1)
    errors = document["statuses"]["ERROR"] / listed
    rejected = document["statuses"]["REJECTED"] / listed
    limits = [
        (errors > options.max_error_rate, f"{errors:.1%} ERROR, --max_error_rate"),
        (
            rejected > options.max_reject_rate,
            f"{rejected:.1%} REJECTED, --max_reject_rate",
        ),
        (listed < options.min_inputs, f"{listed} files, --min_inputs"),
    ]
    return [message for is_broken, message in limits if is_broken]
