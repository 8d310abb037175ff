"""The model card: what only people know about a model, in a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from beam_pipeline.document import Mismatch, build
from beam_pipeline.manifest import Eligibility, ManifestError
from trainer.data.dataset import Task

_NOT_STATED = "Not stated by whoever trained this model."

# Computed Radiography, and Digital X-Ray For Presentation: PS3.4 B.5.
CHEST_RADIOGRAPHS = Eligibility(
    sop_classes=("1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1"),
    modalities=("CR", "DX"),
    body_parts=("CHEST", "THORAX", "LUNG", "LUNGS", "CHEST PA", "CHEST AP"),
    views=("AP", "PA"),
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """The part of a manifest that no computation gives.

    Attributes:
        name: of the model; empty for the name of its directory.
        version: of the model.
        source: where the images come from, as one would cite it.
        licence: of the model.
        intended_use: for whom, on what images, to what end.
        limits: what it must not be used for, and where it is known to fail.
        findings: the classes that are findings; empty for all but NORMAL.
        eligibility: which radiographs it may score.
    """

    name: str = ""
    version: str = "1"
    source: str = _NOT_STATED
    licence: str = _NOT_STATED
    intended_use: str = _NOT_STATED
    limits: str = _NOT_STATED
    findings: tuple[str, ...] = ()
    eligibility: Eligibility = CHEST_RADIOGRAPHS


def load(path: Path) -> Card:
    """The card in a TOML file.

    Raises:
        ManifestError: not TOML, an unknown key, or a value of the wrong type.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read as TOML: {error}") from error
    try:
        card: Card = build(Card, document, str(path))
    except Mismatch as error:
        raise ManifestError(str(error)) from error
    return card


def findings(
    card: Card, classes: tuple[str, ...], task: Task = "multiclass"
) -> tuple[str, ...]:
    """The classes that are findings.

    Raises:
        ManifestError: the card names one that is no class, or one twice; or, but for
            multi-label, where an image may have no class, it names every class, or
            none while no class is called NORMAL.
    """
    may_be_all = task == "multilabel"
    if card.findings:
        named = set(card.findings)
        others = set(classes) - named
        known = len(named) == len(card.findings) and named <= set(classes)
        if not known or not (others or may_be_all):
            raise ManifestError(
                f"the findings {', '.join(card.findings)} of the model card must be "
                f"some of the classes {', '.join(classes)}, "
                f"{'' if may_be_all else 'not all, '}and each once"
            )
        return card.findings
    abnormal = tuple(name for name in classes if name.upper() != "NORMAL")
    if len(abnormal) == len(classes) and not may_be_all:
        raise ManifestError(
            f"none of the classes {', '.join(classes)} is called NORMAL: name the "
            "findings in the model card, and give it with --card"
        )
    return abnormal
