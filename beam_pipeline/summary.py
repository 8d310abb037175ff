"""What a finished run's `run.json` says: in a few lines, and held against limits."""

from __future__ import annotations

from typing import Any

# Flags that set a limit to a whole run.
LIMITS = ("max_error_rate", "max_reject_rate", "min_inputs")


def text(document: dict[str, Any], output: str) -> str:
    """What a person wants to know when a run has ended, in a few lines."""
    lines = [f"{document['listed']} files in {document['seconds']:.1f} s"]
    for status, count in document["statuses"].items():
        lines.append(f"  {count:>9,} {status}")
        for reason, n in document["reasons"].get(status, {}).items():
            lines.append(f"  {n:>18,} {reason}")
    if inference := document["inference"]:
        lines.append(_of_device(inference))
    lines.append(f"run {document['run_id']} is complete in {output}")
    return "\n".join(lines)


def _of_device(inference: dict[str, Any]) -> str:
    used = " and ".join(
        f"{each['device']}, {each['batch_size']} images at once"
        for each in inference["devices"]
    )
    busy, idle = inference["busy_seconds"], inference["idle_seconds"]
    share = f"{inference['idle_share']:.0%}"
    return f"the model on {used}: busy {busy:.1f} s, idle {idle:.1f} s ({share})"


def broken_limits(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What in a finished run's `run.json` breaks a limit that its options set.

    Returns:
        of each the flag as `limit`, what it is as `allowed`, and what was `found`.
    """
    listed, statuses = document["listed"], document["statuses"]
    found = {
        "max_error_rate": statuses["ERROR"] / max(listed, 1),
        "max_reject_rate": statuses["REJECTED"] / max(listed, 1),
        "min_inputs": listed,
    }
    asked = document.get("options", {})
    broken = {
        "max_error_rate": found["max_error_rate"] > asked.get("max_error_rate", 1),
        "max_reject_rate": found["max_reject_rate"] > asked.get("max_reject_rate", 1),
        "min_inputs": found["min_inputs"] < asked.get("min_inputs", 0),
    }
    return [
        {"limit": name, "allowed": asked[name], "found": found[name]}
        for name in LIMITS
        if broken[name]
    ]
