"""The subcommand `doctor`: is this machine ready to score?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder

from beam_pipeline import manifest, runs, saved_model, staging
from beam_pipeline.images import codecs
from beam_pipeline.images.codecs import Layout
from beam_pipeline.limits import Limits
from beam_pipeline.manifest import Manifest
from beam_pipeline.process_pool import Allowance, Died, Worker

_PACKAGES = (
    "radiograph-scorer",
    "apache-beam",
    "tensorflow",
    "numpy",
    "pillow",
    "pydicom",
    "imagecodecs",
    "pyarrow",
)
# The largest error, in grey levels of 255, that a lossy codec may leave in a smooth
# picture.
_LOSSY = 4
_PICTURE = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)


Encoder = Callable[[NDArray[Any]], bytes | bytearray]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        well: whether it is as the job needs it.
        detail: what was found.
    """

    subject: str
    well: bool
    detail: str


def run(model: str, output: str | None) -> bool:
    """Print every finding; whether all is well."""
    findings = [*_versions(), *_decoders(), _process(), _device(), *_model(model)]
    if output is not None:
        findings.append(_output(output))
    for finding in findings:
        mark = "ok " if finding.well else "BAD"
        print(f"{mark}  {finding.subject:62} {finding.detail}")
    return all(finding.well for finding in findings)


def versions() -> dict[str, str]:
    """The versions of this package and of those that a score depends on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _versions() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    yield Finding("python", True, f"{platform.python_version()}, {cores} cores")
    for name, version in versions().items():
        yield Finding(name, True, version)


def _decoders() -> Iterator[Finding]:
    for syntax in codecs.DECODERS:
        name = f"decoder of {uid.UID(syntax).name}"
        try:
            error = _round_trip(syntax)
        # Whatever a codec library raises, or lacks, is what is to be found out.
        except Exception as problem:
            yield Finding(name, False, f"{type(problem).__name__}: {problem}")
        else:
            yield Finding(name, error <= _LOSSY, "exact" if not error else "lossy")


def _round_trip(syntax: str) -> int:
    """The largest error of a small picture, written and decoded again."""
    rows, columns = _PICTURE.shape
    layout = Layout(
        transfer_syntax_uid=syntax,
        rows=rows,
        columns=columns,
        samples_per_pixel=1,
        bits_allocated=8,
        bits_stored=8,
        planar_configuration=0,
    )
    pixel_data = encapsulate([bytes(ENCODERS[syntax](_PICTURE))])
    decoded = codecs.decode(pixel_data, layout)
    return int(np.abs(decoded.astype(int) - _PICTURE.astype(int)).max())


def _process() -> Finding:
    """Whether a process for reading files starts here, within its memory."""
    subject = "process that reads files"
    limits = Limits()
    worker = Worker(iter, Allowance(limits.seconds, limits.memory_bytes))
    try:
        answer = list(worker.run(["well"]))
    except (Died, RuntimeError, OSError) as error:
        return Finding(subject, False, str(error))
    finally:
        worker.close()
    return Finding(subject, answer == ["well"], "starts and answers")


def _device() -> Finding:
    gpus = saved_model.devices()
    return Finding("device", True, ", ".join(gpus) or "no GPU; TensorFlow uses the CPU")


def _model(where: str) -> Iterator[Finding]:
    subject = f"model {where}"
    try:
        model = saved_model.load(staging.model(where))
    except (manifest.ManifestError, staging.StagingError) as error:
        yield Finding(subject, False, str(error))
        return
    preparation = model.manifest.preparation
    blank = np.zeros((1, preparation.height, preparation.width, 1), np.uint8)
    well = bool(np.isfinite(model.infer(blank).probabilities).all())
    named = f"{model.manifest.name} {model.manifest.version}"
    yield Finding(subject, well, f"{named}, {model.digest[:19]}…")
    yield _blessing(model.manifest)


def _blessing(model: Manifest) -> Finding:
    subject = "blessing of the model"
    if model.objection is not None:
        wanted = "score wants --allow_unblessed"
        return Finding(subject, False, f"not blessed: {model.objection}; {wanted}")
    reasons = model.blessing.reasons if model.blessing else ()
    return Finding(subject, True, "; ".join(reasons) or "blessed")


def _output(output: str) -> Finding:
    subject = f"output {output}"
    try:
        runs.probe(output)
    except ValueError as error:
        return Finding(subject, False, str(error))
    return Finding(subject, True, "can be written")


def _rle(picture: NDArray[Any]) -> bytes:
    return RLELosslessEncoder.encode(
        picture,
        rows=picture.shape[0],
        columns=picture.shape[1],
        samples_per_pixel=1,
        bits_allocated=8 * picture.itemsize,
        bits_stored=8 * picture.itemsize,
        pixel_representation=int(picture.dtype.kind == "i"),
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )


def _jpeg2k(picture: NDArray[Any], **options: Any) -> bytes:
    precision = _precision(picture)
    return bytes(
        imagecodecs.jpeg2k_encode(
            picture, codecformat="j2k", bitspersample=precision, **options
        )
    )


def _htj2k(picture: NDArray[Any]) -> bytes:
    """Lossless, with the precision that PS3.5 8.2.4 wants.

    The encoder has none to choose. That of the samples is what is taken from them
    before the wavelet, half of the range, and a number in the header (15444-1 A.5.1).
    """
    precision = _precision(picture)
    if precision is None:
        return bytes(imagecodecs.htj2k_encode(picture, reversible=True))
    full = 8 * picture.itemsize
    moved = picture + picture.dtype.type(2 ** (full - 1) - 2 ** (precision - 1))
    frame = bytearray(imagecodecs.htj2k_encode(moved, reversible=True))
    frame[42] = precision - 1
    return bytes(frame)


def _precision(picture: NDArray[Any]) -> int | None:
    """Bits that hold the values; None, for all there are, where some are negative."""
    if picture.dtype.kind != "u":
        return None
    return max(8 * picture.itemsize - 7, int(picture.max()).bit_length())


# One frame of uint8 or uint16 (rows, columns) in each transfer syntax of the matrix.
ENCODERS: dict[str, Encoder] = {
    uid.RLELossless: _rle,
    uid.JPEGBaseline8Bit: partial(imagecodecs.jpeg8_encode, level=95),
    uid.JPEGExtended12Bit: partial(imagecodecs.jpeg8_encode, level=95),
    uid.JPEGLossless: partial(imagecodecs.jpeg8_encode, lossless=True, predictor=4),
    uid.JPEGLosslessSV1: partial(imagecodecs.jpeg8_encode, lossless=True, predictor=1),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEGLSNearLossless: partial(imagecodecs.jpegls_encode, level=2),
    uid.JPEG2000Lossless: partial(_jpeg2k, reversible=True),
    uid.JPEG2000: partial(_jpeg2k, level=80),
    uid.HTJ2KLossless: _htj2k,
    uid.HTJ2KLosslessRPCL: _htj2k,
    uid.HTJ2K: partial(imagecodecs.htj2k_encode, reversible=False),
}
