"""Files → labels, by an exported model, with the job's own reading and decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beam_pipeline import decide, saved_model
from beam_pipeline.decide import Policy
from beam_pipeline.errors import Failure, NotScored, Unreadable
from beam_pipeline.images import rules
from beam_pipeline.records import Outcome
from beam_pipeline.saved_model import SavedModel
from trainer import radiograph
from trainer.radiograph import Radiograph


@dataclass(frozen=True)
class Reader:
    """A model that is asked about single files.

    Attributes:
        model: what scores.
        policy: what decides.
    """

    model: SavedModel
    policy: Policy


@dataclass(frozen=True)
class Prediction:
    """What a model says of one file.

    Attributes:
        radiograph: the file, as it was read.
        outcome: the row that the job would write of it, but for what the header says.
    """

    radiograph: Radiograph
    outcome: Outcome

    @property
    def line(self) -> str:
        """Label and confidence: the probability of that label."""
        probabilities = self.outcome.probabilities or ()
        labels = self.outcome.labels or ()
        return f"Pred: {', '.join(labels) or 'none'} | Confidence: " + (
            ", ".join(f"{self._confidence(label):.2f}" for label in labels)
            or f"{1 - max(probabilities):.2f}"
        )
