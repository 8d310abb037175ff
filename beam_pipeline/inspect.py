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

from beam_pipeline import images, manifest, storage
from beam_pipeline.errors import NotScored, Rejected
from beam_pipeline.images import Header, Limits, Picture, eligibility
from beam_pipeline.images.eligibility import Rules, Verdict
from beam_pipeline.images.rules import compiled
from beam_pipeline.manifest import Manifest
from beam_pipeline.read import internal_error, read_failed
from beam_pipeline.records import Source

_LIMITS = Limits()


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


def run(
    files: list[Path],
    model_dir: Path,
    rules_file: Path | None,
    save_input: Path | None,
) -> bool:
    """Print an inspection of each file; whether all of them would be scored.

    Raises:
        ValueError: a model or rules that cannot be used.
    """
    model = manifest.load(model_dir)
    manifest.verify(model, model_dir)
    rules = compiled(model, rules_file)
    all_well = True
    for number, path in enumerate(files, 1):
        inspection = inspect(path, model, rules)
        all_well &= inspection.error is None
        print("\n".join(report(path, inspection)))
        if save_input is not None and inspection.image is not None:
            save_input.mkdir(parents=True, exist_ok=True)
            # Files of several folders may have one name.
            target = save_input / f"{number:04d}-{path.name}.png"
            Image.fromarray(inspection.image[..., 0]).save(target)
            print(f"  model input saved as {target}")
    return all_well


def inspect(path: Path, model: Manifest, rules: Rules) -> Inspection:
    """Take `path` as far as its content allows, also where a rule refuses it."""
    found = Inspection()
    try:
        with storage.open(Source(str(path))) as stream:
            bounded = _LIMITS.bounded(stream)
            header = images.read_header(bounded, path.name, rules.asked)
        verdicts = eligibility.check(header, rules)
        found = Inspection(header, verdicts, error=_refusal(verdicts))
        if not header.has_pixels:
            return found
        _LIMITS.check_file(path.stat().st_size)
        seen = images.model_input(path.read_bytes(), header, model.preparation)
        return dataclasses.replace(found, picture=seen.picture, image=seen.image)
    except NotScored as error:
        return dataclasses.replace(found, error=found.error or error)
    except OSError as error:
        return dataclasses.replace(found, error=read_failed(error))
    # As in the job: a defect of this program, said of the file that it met.
    except Exception as error:
        return dataclasses.replace(found, error=internal_error(error))


def report(path: Path, inspection: Inspection) -> Iterator[str]:
    """The lines that `inspect` prints of one file."""
    yield f"{path}"
    if inspection.header is not None:
        yield "  header"
        for name, value in _facts(inspection.header):
            if value is not None:
                yield f"    {name:26} {_named(name, value)}"
    if inspection.verdicts:
        yield "  rules"
        for verdict in inspection.verdicts:
            yield f"    {_mark(verdict):34} {verdict.rule}: {verdict.detail}"
    if inspection.picture is not None:
        yield "  pixels"
        if reduction := inspection.picture.reduction:
            name = f"decoded at 1/{2**reduction.halvings} of the size, rows × columns"
            yield f"    {name:50} {reduction.shape[0]} × {reduction.shape[1]}"
        for step in inspection.picture.steps:
            yield f"    {step.name:50} {step.low:g} to {step.high:g}"
        for flag in inspection.picture.flags:
            yield f"    flag {flag}"
    if inspection.image is not None:
        shape = " × ".join(map(str, inspection.image.shape))
        low, high = inspection.image.min(), inspection.image.max()
        yield f"    {f'model input, {shape}':50} {low} to {high}"
    yield f"  → {_verdict(inspection.error)}"


def _facts(header: Header) -> Iterator[tuple[str, object]]:
    """What may be shown: not what stands in attributes as it stands there."""
    for field in dataclasses.fields(header):
        if field.name not in ("stated", "attributes", "flags"):
            yield field.name, getattr(header, field.name)
    for flag in header.flags:
        yield "flag", flag


def _refusal(verdicts: tuple[Verdict, ...]) -> Rejected | None:
    try:
        eligibility.require(verdicts)
    except Rejected as error:
        return error
    return None


def _mark(verdict: Verdict) -> str:
    if verdict.finding is None:
        return "ok"
    kind = "reject" if verdict.finding.reject else "flag"
    return f"{kind} {verdict.finding.code}"


def _named(name: str, value: object) -> object:
    if name in ("sop_class_uid", "transfer_syntax_uid"):
        return f"{value} ({UID(str(value)).name})"
    return value


def _verdict(error: NotScored | None) -> str:
    if error is None:
        return "would be scored"
    status = "REJECTED" if isinstance(error, Rejected) else "ERROR"
    return f"{status} {error.reason}: {error.detail}"
