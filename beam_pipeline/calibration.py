"""A site's calibration: temperature and thresholds from its own labels.

It is bound to one model by the model's digest, and applied to the logits, so that no
model has to be exported again. `python -m trainer calibrate` writes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beam_pipeline.document import Mismatch, build, require
from beam_pipeline.manifest import Manifest, OperatingPoint


class CalibrationError(Mismatch):
    """A site's calibration that must not be used: what differs, and where."""


@dataclass(frozen=True, kw_only=True)
class SiteCalibration:
    """What a site's labels say of a model.

    Attributes:
        model_name: of the model that it is for.
        model_version: of the same.
        model_digest: of the same; another model is refused.
        temperature: divides the logits, in the place of the model's own.
        operating_points: in the place of the model's own, by name.
        site: whose labels they were.
        images: how many images were labelled.
        patients: how many patients they are of.
        created: when, ISO 8601.
        notes: what else a reader should know.

    Raises:
        Mismatch: on construction, for a value that cannot be.
    """

    model_name: str
    model_version: str
    model_digest: str
    temperature: float
    operating_points: Mapping[str, OperatingPoint]
    site: str
    images: int
    patients: int
    created: str
    notes: str | None = None
    schema_version: Literal[1] = 1

    def __post_init__(self) -> None:
        valid = math.isfinite(self.temperature) and self.temperature > 0
        require(valid, "temperature", self.temperature, "a number > 0")
        require(self.site.strip(), "site", self.site, "a name")
        counted = 1 <= self.patients <= self.images
        require(counted, "patients", self.patients, f"1 to {self.images} (images)")
        require(_is_time(self.created), "created", self.created, "an ISO 8601 time")

    def require_model(self, manifest: Manifest, model_digest: str) -> None:
        """Refuse another model than the one that was calibrated.

        Raises:
            CalibrationError: another digest, or points that cannot decide for it.
        """
        if self.model_digest != model_digest:
            raise CalibrationError(
                f"the calibration of {self.site} is for {self.model_name} "
                f"{self.model_version}, {self.model_digest}; the model is "
                f"{manifest.name} {manifest.version}, {model_digest}. Calibrate it on "
                "scores of this model: python -m trainer calibrate"
            )
        try:
            manifest.check_points(self.operating_points)
        except Mismatch as error:
            raise CalibrationError(f"the calibration of {self.site}: {error}") from None


def probabilities(
    logits: ArrayLike, temperature: float, task: str
) -> NDArray[np.float64]:
    """Calibrated probabilities, float64, of logits (…, classes).

    Softmax of logits / temperature (Guo et al. 2017); of a multi-label model, whose
    classes do not exclude each other, the sigmoid of each. NaN where a logit is none.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    with np.errstate(invalid="ignore"):
        if task == "multilabel":
            return np.asarray(np.exp(-np.logaddexp(0.0, -scaled)))
        total = np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
        return np.asarray(np.exp(scaled - total))


def load(path: Path) -> SiteCalibration:
    """The validated calibration in the file at `path`.

    Raises:
        CalibrationError: no file, not JSON, an unknown or missing key, a bad value.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CalibrationError(
            f"there is no calibration {path}. Calibrations come from "
            "`python -m trainer calibrate --output JSON`."
        ) from error
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path} cannot be read as JSON: {error}") from error
    try:
        found: SiteCalibration = build(SiteCalibration, document, "calibration")
    except Mismatch as error:
        raise CalibrationError(f"{path}: {error}") from error
    return found


def save(calibration: SiteCalibration, path: Path) -> None:
    """Write `calibration` to `path`, which must not exist: runs name it by its digest.

    Raises:
        FileExistsError: there is a file.
    """
    document = dataclasses.asdict(calibration)
    with path.open("x", encoding="utf-8") as stream:
        stream.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def digest(path: Path) -> str:
    """`sha256:…` of the file at `path`."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
