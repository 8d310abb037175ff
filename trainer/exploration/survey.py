"""Every file of a data set, read once: what it is and how it looks.

Images are read by `beam_pipeline.images`, as they will be in training and serving.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from PIL import Image

from beam_pipeline import images
from beam_pipeline.errors import NotScored
from beam_pipeline.images import Header, Limits
from beam_pipeline.manifest import Preparation
from beam_pipeline.read import internal_error, read_failed
from trainer.data.dataset import File, Listing

SIDE = 224
SMALL = 32
BINS = 64
_PREPARATION = Preparation(height=SIDE, width=SIDE)
_LIMITS = Limits()
# Read at once; what is kept of a file is 2 KB, what is passed on 50 KB.
_SLICE = 512


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is kept of one file.

    Attributes:
        reason: why it cannot be read, "" where it can; see docs/reasons.md.
        detail: the same in words.
        channels: Pillow's mode, or DICOM's photometric interpretation.
        bits: bits a sample.
        width: in pixels, of the upright picture where it can be read.
        height: likewise.
        flags: of the header and of the picture.
        columns: age, sex and view, where the header has them.
        digest: of the file's bytes.
        picture_digest: of the picture as a model gets it.
        mean: of that picture, 0 to 255.
        std: likewise.
        sharpness: mean step from a pixel to its right neighbour: noise, edges, and how
            much of them a compression left.
    """

    reason: str = ""
    detail: str = ""
    format: str = ""
    channels: str = ""
    bits: int | None = None
    width: int | None = None
    height: int | None = None
    file_bytes: int = 0
    flags: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    digest: bytes = b""
    picture_digest: bytes = b""
    mean: float = float("nan")
    std: float = float("nan")
    sharpness: float = float("nan")


@dataclass(frozen=True)
class Average:
    """All pictures of a class, one over the other.

    Attributes:
        count: how many pictures.
        mean: float64, (224, 224), 0 to 255.
        variance: likewise.
    """

    count: int
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


@dataclass(frozen=True)
class Survey:
    """All files, in the order of their listing.

    Attributes:
        small: uint8, (files, 32, 32), pictures reduced; black where unreadable.
        histograms: uint16, (files, 64), of the 224 × 224 picture; 0 where unreadable.
        averages: by class.
    """

    listing: Listing
    measured: tuple[Measured, ...]
    small: NDArray[np.uint8]
    histograms: NDArray[np.uint16]
    averages: Mapping[str, Average]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted."""
        return tuple(sorted({name for f in self.listing.files for name in f.labels}))

    @cached_property
    def labels(self) -> NDArray[np.bool_]:
        """Which file has which label: (files, classes)."""
        rows = [[name in f.labels for name in self.classes] for f in self.listing.files]
        return np.array(rows, np.bool_).reshape(len(rows), len(self.classes))

    @cached_property
    def readable(self) -> NDArray[np.bool_]:
        """Which files could be read: (files,)."""
        return np.array([not m.reason for m in self.measured], np.bool_)

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """Whose image each file is: (files,)."""
        return np.array([file.patient for file in self.listing.files], np.str_)

    @cached_property
    def parts(self) -> NDArray[np.str_]:
        """The part that each file came in, "" where none: (files,)."""
        return np.array([file.part for file in self.listing.files], np.str_)

    def of(self, name: str) -> NDArray[np.bool_]:
        """The readable files of a class: (files,)."""
        return self.labels[:, self.classes.index(name)] & self.readable

    def columns(self, row: int) -> dict[str, str]:
        """What table or header say of a file; the table is right."""
        stated = self.listing.files[row].columns
        return {**self.measured[row].columns, **{k: v for k, v in stated.items() if v}}

    def name(self, row: int) -> str:
        """Its path below the data folder."""
        path, root = self.listing.files[row].path, self.listing.root
        inside = path.is_relative_to(root)
        return path.relative_to(root).as_posix() if inside else str(path)


def survey(
    listing: Listing, advance: Callable[[int], None] = lambda count: None
) -> Survey:
    """Read and measure all files, on all cores.

    Args:
        listing: the files.
        advance: is told how many more were read.
    """
    files = listing.files
    measured: list[Measured] = []
    small = np.zeros((len(files), SMALL, SMALL), np.uint8)
    histograms = np.zeros((len(files), BINS), np.uint16)
    sums = {name: _Sum() for file in files for name in file.labels}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # In slices, so that what is read never runs far ahead of what is added up.
        for start in range(0, len(files), _SLICE):
            part = files[start : start + _SLICE]
            for file, (facts, prepared) in zip(part, pool.map(look, part), strict=True):
                if prepared is not None:
                    small[len(measured)] = reduced(prepared)
                    histograms[len(measured)] = _histogram(prepared)
                    for name in file.labels:
                        sums[name].add(prepared)
                measured.append(facts)
            advance(len(part))
    averages = {name: total.average() for name, total in sums.items()}
    return Survey(listing, tuple(measured), small, histograms, averages)


class _Sum:
    def __init__(self) -> None:
        self._count = 0
        self._first = np.zeros((SIDE, SIDE))
        self._second = np.zeros((SIDE, SIDE))

    def add(self, prepared: NDArray[np.uint8]) -> None:
        values = prepared.astype(np.float64)
        self._count += 1
        self._first += values
        self._second += values**2

    def average(self) -> Average:
        count = max(1, self._count)
        mean = self._first / count
        variance = np.maximum(self._second / count - mean**2, 0)
        return Average(self._count, mean, variance)


def look(file: File) -> tuple[Measured, NDArray[np.uint8] | None]:
    """One file's facts, and its picture as a model gets it, uint8, (224, 224).

    A file that cannot be read has a reason, and no picture.
    """
    header: Header | None = None
    try:
        _LIMITS.check_file(file.path.stat().st_size)
        data = file.path.read_bytes()
        header = images.read_header(io.BytesIO(data), str(file.path))
        picture = images.decode(data, header)
    except NotScored as error:
        return _unread(header, error), None
    except MemoryError:
        return _unread(header, _LIMITS.out_of_memory()), None
    except OSError as error:
        return _unread(header, read_failed(error)), None
    # A defect of ours must not end the survey; it costs this file.
    except Exception as error:
        return _unread(header, internal_error(error)), None
    prepared = images.prepare(picture.pixels, _PREPARATION, header.pixel_aspect)[..., 0]
    facts = Measured(
        format=header.format,
        channels=_channels(header, data),
        bits=header.bits_stored,
        width=picture.pixels.shape[1],
        height=picture.pixels.shape[0],
        file_bytes=len(data),
        flags=tuple(str(flag) for flag in (*header.flags, *picture.flags)),
        columns=_stated(header),
        digest=blake3(data).digest(),
        picture_digest=blake3(prepared.tobytes()).digest(),
        mean=float(prepared.mean()),
        std=float(prepared.std()),
        sharpness=float(np.abs(np.diff(prepared.astype(np.int16), axis=1)).mean()),
    )
    return facts, prepared


def _unread(header: Header | None, error: NotScored) -> Measured:
    if header is None:
        return Measured(reason=str(error.reason), detail=error.detail)
    return Measured(
        reason=str(error.reason),
        detail=error.detail,
        format=header.format,
        bits=header.bits_stored,
        width=header.columns,
        height=header.rows,
    )


def _channels(header: Header, data: bytes) -> str:
    if header.photometric_interpretation:
        return header.photometric_interpretation
    # Opening reads no pixels, and `images` has done it before without complaint.
    return Image.open(io.BytesIO(data), formats=("PNG", "JPEG")).mode


def _stated(header: Header) -> dict[str, str]:
    age = header.patient_age_completed_years
    stated = {
        "age": "" if age is None else str(age),
        "sex": header.patient_sex or "",
        "view": header.view_position or "",
    }
    return {name: value for name, value in stated.items() if value}


def reduced(prepared: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The means of 7 × 7 pixels: uint8, (32, 32)."""
    step = SIDE // SMALL
    blocks = prepared.reshape(SMALL, step, SMALL, step)
    means: NDArray[np.float64] = blocks.mean(axis=(1, 3))
    return np.rint(means).astype(np.uint8)


def _histogram(prepared: NDArray[np.uint8]) -> NDArray[np.uint16]:
    counts: NDArray[np.int64] = np.bincount(prepared.ravel(), minlength=256)
    # 224 × 224 is less than 2 to the 16.
    return np.add.reduceat(counts, np.arange(0, 256, 256 // BINS)).astype(np.uint16)


def pictures(files: Sequence[File]) -> list[NDArray[np.uint8]]:
    """A few files once more, to be shown: uint8, (224, 224) each."""
    looks = [look(file)[1] for file in files]
    return [np.zeros((SIDE, SIDE), np.uint8) if p is None else p for p in looks]
