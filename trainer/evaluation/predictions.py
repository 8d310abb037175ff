"""What a model said of labelled images: the table between a model and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_pipeline.calibration import probabilities
from trainer.data.dataset import COLUMNS, Labels, Strings, Task

Floats = NDArray[np.float64]

FILE = "predictions.parquet"


@dataclass(frozen=True)
class Predictions:
    """Images with their answers and a model's logits.

    Attributes:
        task: of the model.
        classes: of the model, in its order.
        findings: the classes that are findings.
        names: the path of each image, (images,).
        labels: bool, (images, classes).
        logits: float64, (images, classes), before calibration.
        temperature: that logits are divided by.
        patients: (images,): whose image it is.
        parts: `training`, `validation`, `held_out`, or "" each, (images,).
        columns: what else is known, (images,) each, "" where it is not.
        spread: float64, (images,): how far members disagree; None where there is none.
        is_of_training: whether `parts` says what the model learned from, and not which
            part the images came in.
    """

    task: Task
    classes: tuple[str, ...]
    findings: tuple[str, ...]
    names: Strings
    labels: Labels
    logits: Floats
    temperature: float
    patients: Strings
    parts: Strings
    columns: Mapping[str, Strings]
    spread: Floats | None = None
    is_of_training: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @property
    def probabilities(self) -> Floats:
        """Calibrated, (images, classes)."""
        return probabilities(self.logits, self.temperature, self.task)

    @property
    def scores(self) -> Floats:
        """The probability of a finding, (images,): see `DESIGN.md`, `score`."""
        of_findings = self.probabilities[:, self._finding_indices]
        if self.task == "multilabel":
            return np.asarray(of_findings.max(axis=1))
        # Rounding can lift the sum of several findings a hair above 1.
        return np.asarray(np.minimum(of_findings.sum(axis=1), 1.0))

    @property
    def positives(self) -> NDArray[np.bool_]:
        """Whether there is a finding, (images,)."""
        return np.asarray(self.labels[:, self._finding_indices].any(axis=1))

    @property
    def _finding_indices(self) -> list[int]:
        return [self.classes.index(finding) for finding in self.findings]

    def chosen(self, rows: NDArray[np.bool_]) -> Predictions:
        """Those images where `rows`, bool, (images,), is true."""
        return replace(
            self,
            names=self.names[rows],
            labels=self.labels[rows],
            logits=self.logits[rows],
            patients=self.patients[rows],
            parts=self.parts[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
            spread=None if self.spread is None else self.spread[rows],
        )

    def part(self, name: str) -> Predictions:
        """The images of one part."""
        return self.chosen(self.parts == name)


def save(predictions: Predictions, path: Path) -> None:
    """Write them as Parquet, one row an image."""
    columns = {
        "path": predictions.names,
        "patient": predictions.patients,
        "part": predictions.parts,
        "labels": [
            [
                name
                for name, is_on in zip(predictions.classes, row, strict=True)
                if is_on
            ]
            for row in predictions.labels.tolist()
        ],
        "score": predictions.scores,
        "logits": predictions.logits.tolist(),
        **predictions.columns,
    }
    if predictions.spread is not None:
        columns["spread"] = predictions.spread
    about = {
        b"task": predictions.task,
        b"classes": "|".join(predictions.classes),
        b"findings": "|".join(predictions.findings),
        b"temperature": repr(predictions.temperature),
        b"is_of_training": str(predictions.is_of_training),
    }
    table = pa.table(columns).replace_schema_metadata(about)
    pq.write_table(table, path)


def load(path: Path) -> Predictions:
    """What `save` wrote.

    Raises:
        ValueError: a file that `save` did not write.
    """
    table = pq.read_table(path)
    about = {k: v.decode() for k, v in (table.schema.metadata or {}).items()}
    if b"task" not in about:
        raise ValueError(
            f"{path} has no predictions; `python -m trainer train` and `evaluate` "
            "write them as predictions.parquet"
        )
    classes = tuple(about[b"classes"].split("|"))
    columns = table.to_pydict()
    return Predictions(
        task=about[b"task"],
        classes=classes,
        findings=tuple(about[b"findings"].split("|")),
        names=np.array(columns["path"]),
        labels=np.array(
            [[name in labels for name in classes] for labels in columns["labels"]]
        ),
        logits=np.array(columns["logits"], np.float64),
        temperature=float(about[b"temperature"]),
        patients=np.array(columns["patient"]),
        parts=np.array(columns["part"]),
        columns={n: np.array(columns[n]) for n in COLUMNS if n in columns},
        spread=np.array(columns["spread"]) if "spread" in columns else None,
        is_of_training=about.get(b"is_of_training") == "True",
    )
