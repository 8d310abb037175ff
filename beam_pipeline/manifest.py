"""The manifest: all that a model says about itself, in `assets.extra/manifest.json`.

`load` reads and validates it, `verify` holds the SavedModel's files against it. The
trainer writes it; the pipeline reads nothing about a model from anywhere else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from beam_pipeline.document import Mismatch, build, require

MANIFEST_PATH = Path("assets.extra") / "manifest.json"
# The model in the box.
DEFAULT_MODEL = Path(__file__).parent / "default_model"


class ManifestError(Mismatch):
    """A model directory that must not be used: what differs, and where."""


# Of the largest image that may be read, 1/256 is left.
MAX_REDUCTION = 8


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """The choices in how a file becomes a picture; see `images.decode`.

    Attributes:
        voi: `auto` takes the VOI LUT, else the first valid window, else percentiles;
            `window` passes over the VOI LUT, `percentile` over windows too.
        raster_polarity: `inverted` for PNG and JPEG that were written without regard to
            MONOCHROME1, where bone is black.
    """

    voi: Literal["auto", "window", "percentile"] = "auto"
    raster_polarity: Literal["as_is", "inverted"] = "as_is"


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How a picture becomes the model's input; see `images.prepare`.

    Attributes:
        height: rows of the model input.
        width: columns of the model input.
        resize: `stretch` ignores the aspect ratio, `pad` keeps it.
        voi: see `Rendering`.
        raster_polarity: see `Rendering`.
        max_reduction: how many times an image may be halved while it is decoded, by
            decoders that can; 0 decodes at full size. `prepare.halvings` says how often
            an image of some size is.
        version: of the code's definition of all this; another one is refused.
    """

    height: int
    width: int
    resize: Literal["stretch", "pad"] = "stretch"
    voi: Literal["auto", "window", "percentile"] = "auto"
    raster_polarity: Literal["as_is", "inverted"] = "as_is"
    max_reduction: int = 0
    version: Literal[1] = 1

    def __post_init__(self) -> None:
        require(1 <= self.height <= 4096, "preparation.height", self.height, "1–4096")
        require(1 <= self.width <= 4096, "preparation.width", self.width, "1–4096")
        reduction = self.max_reduction
        expected = f"0–{MAX_REDUCTION}"
        known = 0 <= reduction <= MAX_REDUCTION
        require(known, "preparation.max_reduction", reduction, expected)

    @property
    def name(self) -> str:
        """The preparation in a few words, as rows carry it."""
        size = f"v{self.version}:{self.width}x{self.height}:{self.resize}:{self.voi}"
        inverted = self.raster_polarity == "inverted"
        size += ":raster-inverted" if inverted else ""
        return f"{size}:reduced" if self.max_reduction else size

    @property
    def whole(self) -> Preparation:
        """The same at full size, which makes nearly the same of every image."""
        return dataclasses.replace(self, max_reduction=0)

    @property
    def rendering(self) -> Rendering:
        """The choices that come before the resizing."""
        return Rendering(voi=self.voi, raster_polarity=self.raster_polarity)


@dataclass(frozen=True, kw_only=True)
class Eligibility:
    """Which radiographs the model may score; see `images.eligibility`.

    Attributes:
        sop_classes: accepted SOP Class UIDs (0008,0016).
        modalities: accepted values of Modality (0008,0060).
        body_parts: accepted values of Body Part Examined (0018,0015), upper case.
        views: accepted values of View Position (0018,5101), upper case.
        patient_age_years: lowest and highest age that the model is meant for, in
            completed years.
    """

    sop_classes: tuple[str, ...]
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    views: tuple[str, ...]
    patient_age_years: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % confidence interval, and how many it rests on."""

    value: float
    low: float
    high: float
    n: int
    method: str

    def __post_init__(self) -> None:
        ordered = self.low <= self.value <= self.high
        require(ordered, "estimate", self, "low <= value <= high")


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Thresholds in [0, 1] that turn probabilities into a decision.

    Attributes:
        thresholds: one for the score; for a multi-label model, one for each class.
        method: how they were chosen.
        chosen_on: the patients they were chosen on.
        sensitivity: on held-out patients, at these thresholds.
        specificity: on held-out patients, at these thresholds.
        intervals: the 95 % bootstrap interval of each threshold, if it was measured.
        abstain: a score in [low, high) is too near the threshold to call; None where
            every score is called.
    """

    thresholds: tuple[float, ...]
    method: str
    chosen_on: str
    sensitivity: Estimate
    specificity: Estimate
    intervals: tuple[tuple[float, float], ...] | None = None
    abstain: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        valid = all(0 <= threshold <= 1 for threshold in self.thresholds)
        require(valid, "thresholds", self.thresholds, "values in [0, 1]")
        if self.intervals is not None:
            valid = len(self.intervals) == len(self.thresholds) and all(
                0 <= low <= high <= 1 for low, high in self.intervals
            )
            expected = "a low and a high in [0, 1] for each threshold"
            require(valid, "intervals", self.intervals, expected)
        if self.abstain is not None:
            low, high = self.abstain
            expected = "low <= high in [0, 1]"
            require(0 <= low <= high <= 1, "abstain", self.abstain, expected)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was done to the logits so that probabilities mean what they say."""

    method: Literal["temperature"]
    temperature: float
    chosen_on: str

    def __post_init__(self) -> None:
        valid = math.isfinite(self.temperature) and self.temperature > 0
        require(valid, "calibration.temperature", self.temperature, "a number > 0")


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """How `outlier_score` was made, and from where on it means something.

    Attributes:
        method: how the score follows from the features.
        features: what it is computed from.
        quantiles: the score below which that share of the images it was chosen on lies,
            by share: `{"0.99": …}`.
        flag_above: which of the quantiles flags an image as unlike the training data.
        chosen_on: the patients the quantiles were taken from.
    """

    method: str
    features: str
    quantiles: Mapping[str, float]
    flag_above: str
    chosen_on: str

    def __post_init__(self) -> None:
        finite = all(math.isfinite(value) for value in self.quantiles.values())
        require(finite, "outlier.quantiles", self.quantiles, "numbers")
        known = self.flag_above in self.quantiles
        require(known, "outlier.flag_above", self.flag_above, "one of the quantiles")

    @property
    def limit(self) -> float:
        """The score beyond which an image is flagged."""
        return self.quantiles[self.flag_above]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How `spread` was made: the standard deviation of one image's scores.

    Attributes:
        method: over the members of an ensemble, or over augmentations of the image.
        of: how many.
    """

    method: Literal["ensemble", "augmentation"]
    of: int

    def __post_init__(self) -> None:
        require(self.of >= 2, "spread.of", self.of, "2 or more")


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the signature `explain` computes: a heatmap of where a class was seen.

    Attributes:
        method: such as Grad-CAM.
        layer: of the network, whose channels are weighed.
        height: rows of the heatmap.
        width: columns of the heatmap.
    """

    method: str
    layer: str
    height: int
    width: int

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            size = getattr(self, name)
            require(size >= 1, f"explanation.{name}", size, "1 or more")


@dataclass(frozen=True, kw_only=True)
class Blessing:
    """Whether the model may be used, on which terms, and why.

    Attributes:
        blessed: whether it may.
        required: the worst value that was allowed of each of these metrics: the least
            one, or the largest one where less is better.
        reasons: in words, why it is or is not blessed.
        compared_with: name, version and digest of the model that it replaces, or None.
    """

    blessed: bool
    required: Mapping[str, float]
    reasons: tuple[str, ...]
    compared_with: str | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the training data's split."""

    patients: int
    images: int
    images_by_class: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What the model learned from and how patients were split.

    Attributes:
        split_digest: of the table that says which image stands in which part.
    """

    source: str
    images: int
    duplicates_left_out: int
    patient_pattern: str
    files_without_patient: int
    split: Mapping[str, Part]
    seed: int
    split_digest: str | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a SavedModel says about itself.

    Raises:
        Mismatch: on construction, where the parts contradict each other.
    """

    name: str
    version: str
    task: Literal["binary", "multiclass", "multilabel"]
    classes: tuple[str, ...]
    findings: tuple[str, ...]
    preparation: Preparation
    operating_points: Mapping[str, OperatingPoint]
    calibration: Calibration
    eligibility: Eligibility
    training_data: TrainingData
    recipe: Mapping[str, Any]
    metrics: Mapping[str, Estimate]
    intended_use: str
    limits: str
    licence: str
    packages: Mapping[str, str]
    files: Mapping[str, str]
    outlier: Outlier | None = None
    spread: Spread | None = None
    explanation: Explanation | None = None
    blessing: Blessing | None = None
    schema_version: Literal[1] = 1

    def __post_init__(self) -> None:
        known = set(self.findings) <= set(self.classes)
        require(known and self.findings, "findings", self.findings, "some of classes")
        unique = len(set(self.classes)) == len(self.classes) >= 2
        require(
            unique or self.task == "multilabel",
            "classes",
            self.classes,
            "two or more, each once",
        )
        self.check_points(self.operating_points)

    def check_points(self, points: Mapping[str, OperatingPoint]) -> None:
        """Raise `Mismatch` unless `points` can decide on what this model says."""
        require("default" in points, "operating_points", list(points), "a 'default'")
        for name, point in points.items():
            require(
                len(point.thresholds) == self.decisions,
                f"operating_points.{name}.thresholds",
                point.thresholds,
                f"{self.decisions} of them",
            )

    @property
    def decisions(self) -> int:
        """How many thresholds a point has: one; multi-label, one for each class."""
        return len(self.classes) if self.task == "multilabel" else 1

    def require_blessing(self) -> None:
        """Refuse a model that nobody said may be used.

        Raises:
            ManifestError: the model is not blessed, and why.
        """
        if self.objection is not None:
            raise ManifestError(
                f"the model {self.name} {self.version} is not blessed: "
                f"{self.objection}. Train one that is, or try this one with "
                "--allow_unblessed (in a pipeline: allow_unblessed=True)."
            )

    @property
    def objection(self) -> str | None:
        """Why the model is not blessed, in words; None where it is."""
        if self.blessing is None:
            return "its manifest has no blessing: nobody said what it must reach"
        if self.blessing.blessed:
            return None
        return "; ".join(self.blessing.reasons) or "its manifest does not say why"

    @property
    def finding_indices(self) -> tuple[int, ...]:
        """The positions of the findings in `classes`."""
        return tuple(self.classes.index(finding) for finding in self.findings)


def load(model_dir: Path) -> Manifest:
    """The validated manifest of the model in `model_dir`.

    Raises:
        ManifestError: no manifest, not JSON, an unknown or missing key, a bad value.
    """
    path = model_dir / MANIFEST_PATH
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ManifestError(
            f"{model_dir} is not a model: it has no {MANIFEST_PATH}. "
            "Models come from `python -m trainer train --output DIR`."
        ) from error
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read as JSON: {error}") from error
    try:
        manifest: Manifest = build(Manifest, document, "manifest")
    except Mismatch as error:
        raise ManifestError(f"{path}: {error}") from error
    return manifest


def save(manifest: Manifest, model_dir: Path) -> None:
    """Write `manifest` beside the SavedModel in `model_dir`."""
    path = model_dir / MANIFEST_PATH
    path.parent.mkdir(exist_ok=True)
    document = dataclasses.asdict(manifest)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def verify(manifest: Manifest, model_dir: Path) -> str:
    """The model's digest, once every file is found to be what the manifest says.

    The digest, `sha256:…`, covers the SavedModel's files and the manifest.

    Raises:
        ManifestError: a file is missing, changed, or was added.
    """
    found = file_digests(model_dir)
    expected = dict(manifest.files)
    missing = sorted(expected.keys() - found.keys())
    added = sorted(found.keys() - expected.keys())
    changed = sorted(
        name for name in expected.keys() & found.keys() if expected[name] != found[name]
    )
    kinds = {"missing": missing, "added": added, "changed": changed}
    differences = [f"{k}: {', '.join(names)}" for k, names in kinds.items() if names]
    if differences:
        raise ManifestError(
            f"the files in {model_dir} are not those of its manifest "
            f"({'; '.join(differences)}). Copy the model again, or export it again."
        )
    total = hashlib.sha256((model_dir / MANIFEST_PATH).read_bytes())
    for name in sorted(found):
        total.update(f"{name}\0{found[name]}\n".encode())
    return f"sha256:{total.hexdigest()}"


def file_digests(model_dir: Path) -> dict[str, str]:
    """SHA-256 of every file of the SavedModel, by its path within `model_dir`."""
    return {
        path.relative_to(model_dir).as_posix(): _sha256(path)
        for path in sorted(model_dir.rglob("*"))
        if path.is_file() and path.relative_to(model_dir) != MANIFEST_PATH
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
