"""How the last run ended, as metrics for node_exporter's textfile collector.

Names and units follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Info, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

from beam_pipeline import summary
from beam_pipeline.ending import Ending, ExitCode

_LOGGER = logging.getLogger(__name__)

_PREFIX = "radiograph_scorer"
_LAST_SUCCESS = f"{_PREFIX}_last_success_timestamp_seconds"
_COMPLETE = (ExitCode.COMPLETE, ExitCode.LIMIT_BROKEN)


def write(path: Path, ending: Ending) -> None:
    """Write `path` anew, whole or not at all; a file that cannot be is logged.

    When the last complete run ended is taken over from what stood there.
    """
    now = time.time()
    success = now if ending.exit_code in _COMPLETE else _last_success(path)
    metrics = _Metrics(path.stem)
    metrics.gauge("last_run_timestamp_seconds", "When the last run ended.", now)
    metrics.gauge(
        "last_success_timestamp_seconds",
        "When the last complete run ended; 0 where none did yet.",
        success,
    )
    metrics.gauge("exit_code", "Exit code of the last run.", ending.exit_code)
    metrics.gauge("run_duration_seconds", "How long the last run took.", ending.seconds)
    _add_record(metrics, ending.record)
    try:
        write_to_textfile(str(path), metrics.registry)
    # The run is what it is, whether its metrics can be written or not.
    except OSError as error:
        _LOGGER.error("--metrics_file %s cannot be written: %s", path, error)


class _Metrics:
    """Gauges that all say of which schedule they are.

    Several schedules on one machine have a file each, and node_exporter puts all files
    together.
    """

    def __init__(self, schedule: str) -> None:
        self.registry = CollectorRegistry()
        self._schedule = schedule

    def gauge(self, name: str, help_text: str, value: float, **labels: str) -> None:
        self.family(name, help_text, [(labels, value)])

    def family(
        self,
        name: str,
        help_text: str,
        values: Iterable[tuple[Mapping[str, str], float]],
    ) -> None:
        family: Gauge | None = None
        for labels, value in values:
            labelled = {"schedule": self._schedule, **labels}
            family = family or Gauge(
                f"{_PREFIX}_{name}", help_text, list(labelled), registry=self.registry
            )
            family.labels(**labelled).set(value)

    def info(self, help_text: str, labels: Mapping[str, str]) -> None:
        info = Info(_PREFIX, help_text, ["schedule"], registry=self.registry)
        info.labels(self._schedule).info(dict(labels))


def _add_record(metrics: _Metrics, record: Mapping[str, Any]) -> None:
    """What is known of the run's files; of a run that failed, nothing is."""
    for key, name, help_text in (
        ("listed", "listed_files", "Files that the last run listed."),
        ("carried", "carried_files", "Files whose score an earlier run gave."),
        ("studies", "studies", "Studies of the last run."),
    ):
        if key in record:
            metrics.gauge(name, help_text, record[key])
    metrics.family(
        "files",
        "Files of the last run by status.",
        [({"status": s}, n) for s, n in record.get("statuses", {}).items()],
    )
    metrics.family(
        "reasons",
        "Files of the last run without a score, by reason.",
        [
            ({"status": status, "reason": reason}, n)
            for status, reasons in record.get("reasons", {}).items()
            for reason, n in reasons.items()
        ],
    )
    if inference := record.get("inference"):
        _add_device(metrics, inference)
    if "model" in record:
        _add_finished(metrics, record)


def _add_device(metrics: _Metrics, inference: Mapping[str, Any]) -> None:
    for key, name, help_text in (
        ("busy_seconds", "device_busy_seconds", "How long devices had a batch."),
        ("idle_seconds", "device_idle_seconds", "How long they waited for the next."),
        ("idle_share", "device_idle_ratio", "Idle, of busy and idle together."),
    ):
        metrics.gauge(name, help_text, inference[key])
    metrics.family(
        "device_batch_size",
        "Images that the model saw at once.",
        [({"device": d["device"]}, d["batch_size"]) for d in inference["devices"]],
    )


def _add_finished(metrics: _Metrics, record: Mapping[str, Any]) -> None:
    broken = {each["limit"] for each in record["broken_limits"]}
    metrics.family(
        "limit_broken",
        "Whether the last run broke this limit.",
        [({"limit": name}, name in broken) for name in summary.LIMITS],
    )
    model = record["model"]
    metrics.info(
        "What the last complete run scored with.",
        {
            "model": model["name"],
            "model_version": model["version"],
            "model_digest": model["digest"],
            "operating_point": str(model["operating_point"]),
            "version": record["versions"]["radiograph-scorer"],
        },
    )


def _last_success(path: Path) -> float:
    try:
        families = list(text_string_to_metric_families(path.read_text("utf-8")))
    except (OSError, ValueError):
        return 0.0
    samples = [sample for family in families for sample in family.samples]
    return max((s.value for s in samples if s.name == _LAST_SUCCESS), default=0.0)
