"""The subcommand `inspect`: what the job would do with a file, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import UID

from beam_pipeline import images, manifest
from beam_pipeline.errors import NotScored, Rejected, Rejection
from beam_pipeline.images import Header, Picture, eligibility
from beam_pipeline.images.eligibility import Verdict
from beam_pipeline.manifest import Manifest


@dataclass(frozen=True)
class Inspection:
    """How far a file came, and what was found on the way.

    Attributes:
        header: what it says of itself; None where that cannot be read.
        verdicts: of every rule, also of those behind one that refuses it.
        picture: the upright 8-bit picture, where it could be decoded.
        image: the model input, where there is a picture.
        error: why the job would not score it; None where it would.
    """

    header: Header | None = None
    verdicts: tuple[Verdict, ...] = ()
    picture: Picture | None = None
    image: NDArray[np.uint8] | None = None
    error: NotScored | None = None


def run(files: list[Path], model_dir: Path, save_input: Path | None) -> bool:
    """Print an inspection of each file; whether all of them would be scored.

    Raises:
        ValueError: a model that cannot be used, or a file that cannot be opened.
    """
    model = manifest.load(model_dir)
    inspections = []
    for path in files:
        inspection = inspect(path, model)
        inspections.append(inspection)
        print("\n".join(report(path, inspection)))
        if save_input is not None and inspection.image is not None:
            save_input.mkdir(parents=True, exist_ok=True)
            target = save_input / f"{path.name}.png"
            Image.fromarray(inspection.image[..., 0]).save(target)
            print(f"  model input saved as {target}")
    return all(inspection.error is None for inspection in inspections)


def inspect(path: Path, model: Manifest) -> Inspection:
    """Take `path` as far as its content allows, also where a rule refuses it."""
    found = Inspection()
    try:
        with path.open("rb") as stream:
            header = images.read_header(stream)
        verdicts = eligibility.check(header, model.eligibility)
        found = Inspection(header, verdicts, error=_refusal(verdicts))
        if not header.has_pixels:
            return found
        picture = images.decode(path.read_bytes(), header)
        image = images.prepare(picture.pixels, model.preparation)
        return dataclasses.replace(found, picture=picture, image=image)
    except NotScored as error:
        return dataclasses.replace(found, error=found.error or error)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def report(path: Path, inspection: Inspection) -> Iterator[str]:
    """The lines that `inspect` prints of one file."""
    yield f"{path}"
    if inspection.header is not None:
        yield "  header"
        for name, value in dataclasses.asdict(inspection.header).items():
            if value is not None:
                yield f"    {name:26} {_named(name, value)}"
    if inspection.verdicts:
        yield "  rules"
        for verdict in inspection.verdicts:
            yield f"    {_mark(verdict):34} {verdict.rule}: {verdict.detail}"
    if inspection.picture is not None:
        yield "  pixels"
        for step in inspection.picture.steps:
            yield f"    {step.name:50} {step.low:g} to {step.high:g}"
        for flag in inspection.picture.flags:
            yield f"    flag {flag}"
    if inspection.image is not None:
        shape = " × ".join(map(str, inspection.image.shape))
        low, high = inspection.image.min(), inspection.image.max()
        yield f"    {f'model input, {shape}':50} {low} to {high}"
    yield f"  → {_verdict(inspection.error)}"


def _refusal(verdicts: tuple[Verdict, ...]) -> Rejected | None:
    try:
        eligibility.require(verdicts)
    except Rejected as error:
        return error
    return None


def _mark(verdict: Verdict) -> str:
    if verdict.finding is None:
        return "ok"
    kind = "reject" if isinstance(verdict.finding, Rejection) else "flag"
    return f"{kind} {verdict.finding}"


def _named(name: str, value: object) -> object:
    if name in ("sop_class_uid", "transfer_syntax_uid"):
        return f"{value} ({UID(str(value)).name})"
    return value


def _verdict(error: NotScored | None) -> str:
    if error is None:
        return "would be scored"
    status = "REJECTED" if isinstance(error, Rejected) else "ERROR"
    return f"{status} {error.reason}: {error.detail}"
