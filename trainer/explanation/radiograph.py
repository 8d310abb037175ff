"""One file, read as the job reads it; what would refuse it is said and not obeyed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from beam_pipeline import images, storage
from beam_pipeline.errors import NotScored
from beam_pipeline.images import Limits, eligibility
from beam_pipeline.images.eligibility import Rules, Verdict
from beam_pipeline.images.prepare import Place, placed
from beam_pipeline.manifest import Preparation
from beam_pipeline.read import internal_error, read_failed
from beam_pipeline.records import Source

_LIMITS = Limits()


@dataclass(frozen=True)
class Radiograph:
    """A file that can be shown and scored.

    Attributes:
        pixels: the upright picture, uint8, (rows, columns).
        pixel_aspect: height of one of its pixels over its width.
        image: the model input, uint8, (height, width, 1).
        place: where in the model input the picture lies.
        flags: what a reader of the score should know.
        objections: why the job would not score it; empty where it would.
    """

    pixels: NDArray[np.uint8]
    pixel_aspect: float
    image: NDArray[np.uint8]
    place: Place
    flags: tuple[str, ...] = ()
    objections: tuple[str, ...] = ()


def read(path: Path, preparation: Preparation, rules: Rules) -> Radiograph:
    """A PNG, JPEG or DICOM file, also where its header rules it out.

    Args:
        path: the file.
        preparation: of the model.
        rules: what the job would ask of its header.

    Raises:
        NotScored: there is no radiograph in it that can be decoded.
    """
    try:
        return _read(path, preparation, rules)
    except OSError as error:
        raise read_failed(error) from error
    except NotScored:
        raise
    # As in the job: a defect of this program, said of the file that it met.
    except Exception as error:
        raise internal_error(error) from error


def _read(path: Path, preparation: Preparation, rules: Rules) -> Radiograph:
    with storage.open(Source(str(path))) as stream:
        header = images.read_header(_LIMITS.bounded(stream), path.name, rules.asked)
    verdicts = eligibility.check(header, rules)
    _LIMITS.check_file(path.stat().st_size)
    data = path.read_bytes()
    seen = images.model_input(data, header, preparation)
    picture = seen.picture
    if picture.reduction is not None:
        # A reader wants to see all that is there, and not what the model had of it.
        picture = images.decode(data, header, preparation.rendering)
    flags, objections = _told(verdicts)
    return Radiograph(
        pixels=picture.pixels,
        pixel_aspect=header.pixel_aspect,
        image=seen.image,
        place=placed(picture.pixels.shape, preparation, header.pixel_aspect),
        flags=tuple(map(str, header.flags + flags + picture.flags)),
        objections=objections,
    )


def _told(verdicts: tuple[Verdict, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The codes of flags, and the refusals in words."""
    flags, objections = [], []
    for verdict in verdicts:
        if verdict.finding is None:
            continue
        if verdict.finding.reject:
            objections.append(f"{verdict.finding.reject}: {verdict.detail}")
        else:
            flags.append(verdict.finding.code)
    return tuple(dict.fromkeys(flags)), tuple(objections)
