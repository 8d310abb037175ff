"""Build an archive of N studies from real radiographs, the same bytes every time.

    python -m benchmarks.archive ../shared/data/chest_xray_full ARCHIVE 200
    python -m benchmarks.archive DATA ARCHIVE 200 --encodings jpegls png --size original
    python -m benchmarks.archive DATA ARCHIVE 200 --ineligible 0.5

Radiographs are brought to the size of a detector and widened to 12 bits, with noise in
the bits that an 8-bit JPEG cannot have had, so that lossless codecs meet what a
detector gives them. Some are encoded, each once in each encoding, and kept in
benchmarks/results/cache. A file of the archive is one of these under a header of its
own, with its own UIDs and window: no two files, and no two model inputs, are the same.
Only PNGs, which have no window, repeat their picture.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmwrite, uid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from benchmarks.encodings import ENCODINGS, MIX, Encoding, commented

CACHE = Path("benchmarks/results/cache/frames")
# Columns and rows of a common detector.
DETECTOR = (2544, 3056)
_UID_ROOT = "1.2.826.0.1.3680043.8.498.1"


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What an archive is made of.

    Attributes:
        encodings: names of `ENCODINGS`, in equal parts.
        size: columns and rows of every radiograph; None leaves each its own.
        ineligible: the share of files that eligibility rejects by their header, in
            [0, 1): hands and Structured Reports.
        distinct: how many radiographs are encoded.
    """

    encodings: tuple[str, ...] = MIX
    size: tuple[int, int] | None = DETECTOR
    ineligible: float = 0.0
    distinct: int = 24

    def is_eligible(self, number: int) -> bool:
        """Whether the file of that number may be scored; the others lie among them."""
        return self.eligible(number + 1) > self.eligible(number)

    def eligible(self, studies: int) -> int:
        """How many of the first so many files may be scored."""
        return studies - int(studies * self.ineligible)


DEFAULT = Mixture()


@dataclass(frozen=True)
class Frame:
    """One radiograph in one encoding.

    Attributes:
        radiograph: the picture that it is made from.
        encoding: how.
        inverted: whether white is 0.
        size: its columns and rows.
        kept: where its bytes are.
    """

    radiograph: Path
    encoding: Encoding
    inverted: bool
    size: tuple[int, int]
    kept: Path


def build(
    source: Path,
    archive: Path,
    studies: int,
    mixture: Mixture = DEFAULT,
    cache: Path = CACHE,
) -> None:
    """Write `studies` files to `archive`, which must not exist.

    Raises:
        ValueError: `source` holds no radiographs.
    """
    frames = _frames(source, mixture, cache)
    cache.mkdir(parents=True, exist_ok=True)
    missing = [frame for frame in frames[:studies] if not frame.kept.exists()]
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        list(executor.map(_keep, missing))
    archive.mkdir(parents=True)
    for number in range(studies):
        scored_before = mixture.eligible(number)
        if mixture.is_eligible(number):
            _write_chest(archive, number, frames[scored_before % len(frames)])
        else:
            turn, report = divmod(number - scored_before, 2)
            frame = None if report else frames[turn % len(frames)]
            _write_ineligible(archive, number, frame)


def _write_chest(archive: Path, number: int, frame: Frame) -> None:
    if frame.encoding.transfer_syntax_uid is None:
        png = commented(frame.kept.read_bytes(), str(number))
        (archive / f"{number:06}.png").write_bytes(png)
    else:
        _write(archive, number, _image(number, frame, "CHEST"))


def _write_ineligible(archive: Path, number: int, frame: Frame | None) -> None:
    """A hand; or a report, also in place of a PNG, which cannot say what it shows."""
    if frame is None or frame.encoding.transfer_syntax_uid is None:
        _write(archive, number, _report(number))
    else:
        _write(archive, number, _image(number, frame, "HAND"))


def _write(archive: Path, number: int, dataset: FileDataset) -> None:
    dcmwrite(archive / f"{number:06}.dcm", dataset, enforce_file_format=True)


def _frames(source: Path, mixture: Mixture, cache: Path) -> list[Frame]:
    """Every radiograph in every encoding, the encodings in turn."""
    radiographs = sorted(source.rglob("*.jpeg"))
    if not radiographs:
        raise ValueError(f"{source} holds no .jpeg radiographs")
    step = max(1, len(radiographs) // mixture.distinct)
    chosen = radiographs[::step][: mixture.distinct]
    frames = []
    for index, radiograph in enumerate(chosen):
        digest = blake3(radiograph.read_bytes()).hexdigest()[:16]
        inverted = index % 2 == 1
        with Image.open(radiograph) as image:
            size = mixture.size or image.size
        for name in mixture.encodings:
            kept = f"{digest}-{size[0]}x{size[1]}-{_photometric(inverted)}-{name}"
            frames.append(
                Frame(radiograph, ENCODINGS[name], inverted, size, cache / kept)
            )
    return frames


def _keep(frame: Frame) -> None:
    """Encode the radiograph; the file appears whole or not at all."""
    encoded = bytes(frame.encoding.encode(_pixels(frame)))
    unfinished = frame.kept.with_suffix(".unfinished")
    unfinished.write_bytes(encoded)
    unfinished.rename(frame.kept)


def _pixels(frame: Frame) -> NDArray[np.generic]:
    with Image.open(frame.radiograph) as image:
        grey = image.convert("L").resize(frame.size, Image.Resampling.BICUBIC)
    pixels: NDArray[np.generic] = np.asarray(grey)
    if frame.encoding.bits == 12:
        seed = list(frame.radiograph.name.encode())
        noise = np.random.default_rng(seed).integers(0, 16, pixels.shape)
        pixels = (pixels.astype(np.uint16) * 16 + noise).astype(np.uint16)
    # Nothing in a PNG says that it is inverted.
    if frame.inverted and frame.encoding.transfer_syntax_uid is not None:
        pixels = 2**frame.encoding.bits - 1 - pixels
    return pixels


def _photometric(inverted: bool) -> str:
    return "MONOCHROME1" if inverted else "MONOCHROME2"


def _image(number: int, frame: Frame, body_part: str) -> FileDataset:
    bits = frame.encoding.bits
    syntax = frame.encoding.transfer_syntax_uid or ""
    dataset = _headed(number, uid.DigitalXRayImageStorageForPresentation, syntax)
    # Wide enough for all grey levels, and nowhere the same.
    shift = number % 1009 / 1009
    for keyword, value in {
        "Modality": "DX",
        "PresentationIntentType": "FOR PRESENTATION",
        "BodyPartExamined": body_part,
        "ViewPosition": "PA",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": _photometric(frame.inverted),
        "Columns": frame.size[0],
        "Rows": frame.size[1],
        "BitsAllocated": 8 if bits == 8 else 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "WindowCenter": f"{2 ** (bits - 1) * (1 + shift / 16):.6f}",
        "WindowWidth": f"{2**bits * (1 + number / 1e6):.6f}",
    }.items():
        setattr(dataset, keyword, value)
    data = frame.kept.read_bytes()
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.add_new("PixelData", "OB", encapsulate([data]))
    else:
        dataset.add_new("PixelData", "OW", data)
    return dataset


def _report(number: int) -> FileDataset:
    dataset = _headed(number, uid.BasicTextSRStorage, uid.ExplicitVRLittleEndian)
    dataset.Modality = "SR"
    return dataset


def _headed(number: int, sop_class: str, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.UID(syntax)
    meta.MediaStorageSOPClassUID = uid.UID(sop_class)
    meta.MediaStorageSOPInstanceUID = uid.UID(f"{_UID_ROOT}{number:08}")
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = f"{_UID_ROOT}{number:08}.1"
    dataset.SeriesInstanceUID = f"{_UID_ROOT}{number:08}.2"
    return dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a mixture."""
    parser.add_argument(
        "--size",
        default="x".join(map(str, DETECTOR)),
        help="COLUMNSxROWS, or `original`; default %(default)s",
    )
    parser.add_argument(
        "--ineligible",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="files that eligibility rejects: hands and reports; default 0",
    )
    parser.add_argument(
        "--distinct",
        type=int,
        default=DEFAULT.distinct,
        help="radiographs that are encoded; default %(default)s",
    )


def mixture(arguments: argparse.Namespace, encodings: Sequence[str]) -> Mixture:
    """What the flags say, in these encodings.

    Raises:
        ValueError: a size that is none, or a share that is not in [0, 1).
    """
    if not 0 <= arguments.ineligible < 1:
        raise ValueError(f"--ineligible {arguments.ineligible}: give a share in [0, 1)")
    size = None
    if arguments.size != "original":
        columns, times, rows = arguments.size.partition("x")
        if not (times and columns.isdecimal() and rows.isdecimal()):
            raise ValueError(
                f"--size {arguments.size}: give COLUMNSxROWS, such as 2544x3056, or "
                "`original`"
            )
        size = int(columns), int(rows)
    return Mixture(
        encodings=tuple(encodings),
        size=size,
        ineligible=arguments.ineligible,
        distinct=arguments.distinct,
    )


def main() -> None:
    """Build the archive that the command line describes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of .jpeg radiographs")
    parser.add_argument("archive", type=Path, help="folder to make")
    parser.add_argument("studies", type=int, help="files to write")
    parser.add_argument(
        "--encodings", nargs="+", choices=ENCODINGS, default=MIX, metavar="NAME"
    )
    add_arguments(parser)
    arguments = parser.parse_args()
    try:
        what = mixture(arguments, arguments.encodings)
        build(arguments.data, arguments.archive, arguments.studies, what)
    except (ValueError, OSError) as error:
        sys.exit(f"archive: {error}")


if __name__ == "__main__":
    main()
