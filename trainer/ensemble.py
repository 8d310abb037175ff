"""Several models → one SavedModel that answers with the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from beam_pipeline import manifest as manifests
from beam_pipeline.manifest import Manifest, Preparation
from trainer import run as runs
from trainer import train
from trainer.card import Card
from trainer.data import split
from trainer.run import Data, Setting
from trainer.serving import Ensemble, Exported

# What all members must have in common to answer the same question of the same image.
_SHARED = ("task", "classes", "findings", "preparation")


@dataclass(frozen=True)
class Member:
    """A model that is to be averaged with others.

    Attributes:
        model_dir: where it is.
        manifest: what it says of itself.
        digest: of its files, which are those of its manifest.
    """

    model_dir: Path
    manifest: Manifest
    digest: str

    @property
    def name(self) -> str:
        """Its name, version and digest, as the ensemble's manifest has them."""
        return f"{self.manifest.name} {self.manifest.version} {self.digest}"


@dataclass(frozen=True, kw_only=True)
class Combination(Setting):
    """Which models to average, and the images that the average is judged on.

    Attributes:
        members: see `members`.
    """

    members: tuple[Member, ...]

    @property
    def preparation(self) -> Preparation:
        """That of every member."""
        return self.members[0].manifest.preparation


def members(model_dirs: Sequence[Path]) -> tuple[Member, ...]:
    """The models in these directories.

    Raises:
        ManifestError: a model that must not be used.
        ValueError: fewer than two, one twice, or models that differ in their question
            or in how they want an image: in what.
    """
    found = []
    for model_dir in model_dirs:
        manifest = manifests.load(model_dir)
        digest = manifests.verify(manifest, model_dir)
        found.append(Member(model_dir, manifest, digest))
    if len(found) < 2:
        raise ValueError("an ensemble needs two models or more")
    first, *others = found
    seen = {first.digest: first}
    for other in others:
        _require_same(first, other)
        twin = seen.setdefault(other.digest, other)
        if twin is not other:
            raise ValueError(
                f"{twin.model_dir} and {other.model_dir} are the same model; each "
                "member counts once"
            )
    return tuple(found)


def card(members: Sequence[Member]) -> Card:
    """What all members' manifests say of their use.

    Raises:
        ValueError: they say different things: about what.
    """
    first, *others = [_card(member.manifest) for member in members]
    for member, other in zip(members[1:], others, strict=True):
        differing = [
            name for name, value in vars(first).items() if getattr(other, name) != value
        ]
        if differing:
            raise ValueError(
                f"{members[0].model_dir} and {member.model_dir} differ in "
                f"{', '.join(differing)}; say with --card what holds for the ensemble"
            )
    return first


def combine(combination: Combination) -> Manifest:
    """Average, calibrate, choose thresholds, evaluate and export; the manifest.

    The ensemble needs its members' directories no longer.

    Raises:
        DatasetError: data that a model cannot be judged on.
        FileExistsError: there is a model already where this one should go.
        ValueError: data of other classes, or divided otherwise than the members' were.
        ExportError: the model on disk differs from the average.
    """
    keras.utils.set_random_seed(combination.seed)
    data = runs.read(combination)
    for member in combination.members:
        _require_question(member, data)
        _require_split(member, data)
    scorer = Ensemble(
        [Exported(member.model_dir, member.manifest) for member in combination.members]
    )
    recipe: Mapping[str, Any] = {
        "ensemble": [member.name for member in combination.members]
    }
    return train.finish(combination, data, scorer, recipe)


def _card(manifest: Manifest) -> Card:
    return Card(
        source=manifest.training_data.source,
        licence=manifest.licence,
        intended_use=manifest.intended_use,
        limits=manifest.limits,
        findings=manifest.findings,
        eligibility=manifest.eligibility,
    )


def _require_same(first: Member, other: Member) -> None:
    for name in _SHARED:
        one, two = getattr(first.manifest, name), getattr(other.manifest, name)
        if one != two:
            raise ValueError(
                f"{first.model_dir} and {other.model_dir} differ in {name}: "
                f"{_shown(one)} against {_shown(two)}. Members of an ensemble answer "
                "the same question about the same model input"
            )


def _shown(value: object) -> str:
    if isinstance(value, Preparation):
        return value.name
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _require_question(member: Member, data: Data) -> None:
    examples, manifest = data.examples, member.manifest
    asked = (examples.task, examples.classes, data.findings)
    if asked != (manifest.task, manifest.classes, manifest.findings):
        raise ValueError(
            f"{examples.root} is {examples.task} data with the classes "
            f"{', '.join(examples.classes)} and the findings {', '.join(data.findings)}"
            f"; {member.model_dir} is a {manifest.task} model of "
            f"{', '.join(manifest.classes)} and {', '.join(manifest.findings)}"
        )


def _require_split(member: Member, data: Data) -> None:
    """Refuse a member that may have learned from patients held out here."""
    found = split.digest(data.examples, data.parts)
    if member.manifest.training_data.split_digest != found:
        raise ValueError(
            f"{member.model_dir} was trained on other patients than --data has, or on "
            "another division of them: it may have learned from those that are held "
            "out here, and the figures would be too good. Give the --data, --split, "
            "--fold, --split_seed and --patient_pattern that its training was given; "
            "members that were given different ones cannot be combined"
        )
