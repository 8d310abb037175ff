"""Does a radiograph have the same score when it is decoded at a fraction of its size?

    python -m benchmarks.parity ../shared/data/chest_xray_full            # an hour
    python -m benchmarks.parity ../shared/data/chest_xray_full --radiographs 24

Each encoding sees the same radiographs: real ones, each several times at other sizes,
with other contrast and noise. Each is made a file, and that file a model input twice:
as `images.model_input` makes it, and with `max_reduction` 0. What the model says of the
two is compared. The windows of `--windows` are there to make reducing first go wrong.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmwrite, uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from beam_pipeline import images, saved_model
from beam_pipeline import manifest as manifests
from beam_pipeline.doctor import ENCODERS
from beam_pipeline.manifest import DEFAULT_MODEL, Preparation

LOSSY = "JPEG 2000 lossy"
RASTER = "JPEG"
ENCODINGS = {
    "JPEG 2000": uid.JPEG2000Lossless,
    LOSSY: uid.JPEG2000,
    "HTJ2K": uid.HTJ2KLossless,
    "JPEG in DICOM": uid.JPEGBaseline8Bit,
    RASTER: RASTER,
}
FULL = 4095
SIZES = (0.6, 0.8, 1.0, 1.0, 1.25, 1.6, 2.0, 2.4)
NOISE = (0, 8, 16, 32)
BATCH = 32


@dataclass(frozen=True)
class Window:
    """How a file says that it is shown: center and width, of 4,096, or a LUT."""

    center: float = 2048
    width: float = 4096
    function: str = ""
    gamma: float = 0.0

    def describe(self, dataset: Dataset) -> None:
        """Write it into `dataset`."""
        if self.gamma:
            item = Dataset()
            entries = 65535 * (np.arange(FULL + 1) / FULL) ** self.gamma
            item.add_new("LUTDescriptor", "US", [FULL + 1, 0, 16])
            item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
            dataset.VOILUTSequence = [item]
        dataset.WindowCenter, dataset.WindowWidth = self.center, self.width
        if self.function:
            dataset.VOILUTFunction = self.function


WINDOWS = {
    "whole range": Window(),
    "half": Window(width=2048),
    "quarter": Window(width=1024),
    "eighth": Window(width=512),
    "narrow": Window(width=128),
    "a step": Window(width=2),
    "sigmoid": Window(width=1024, function="SIGMOID"),
    "gamma 0.4": Window(gamma=0.4),
    "gamma 4": Window(gamma=4.0),
    "percentiles": Window(width=0),
}


@dataclass(frozen=True)
class Case:
    """One radiograph in one encoding."""

    path: Path
    number: int
    encoding: str
    window: Window = Window()


@dataclass(frozen=True)
class Pair:
    """One file as the model sees it, and as it would at full size."""

    reduced: NDArray[np.uint8]
    full: NDArray[np.uint8]
    halvings: int
    left: float
    """How many columns of the picture there are for one of the model input."""


def pair(case: Case, preparation: Preparation) -> Pair:
    """Both model inputs of a radiograph that is made a file and read."""
    data = encoded(case)
    header = images.read_header(BytesIO(data))
    seen = images.model_input(data, header, preparation)
    full = images.model_input(data, header, preparation.whole)
    rows, columns = full.picture.pixels.shape
    halvings = round(np.log2(columns / seen.picture.pixels.shape[1]))
    left = min(rows / preparation.height, columns / preparation.width) / 2**halvings
    return Pair(seen.image, full.image, halvings, left)


def encoded(case: Case) -> bytes:
    """The file, at a size and with a contrast and a noise of its own."""
    stored = detector(case.path, case.number)
    eight_bits = (stored >> 4).astype(np.uint8)
    if case.encoding == RASTER:
        stream = BytesIO()
        Image.fromarray(eight_bits).save(stream, "JPEG", quality=90)
        return stream.getvalue()
    is_jpeg = case.encoding == uid.JPEGBaseline8Bit
    return _dicom(eight_bits if is_jpeg else stored, case)


def detector(path: Path, number: int) -> NDArray[np.uint16]:
    """A radiograph of 12 bits, as a detector of some size and dose would see it."""
    rng = np.random.default_rng(number)
    scale = SIZES[number % len(SIZES)] * rng.uniform(0.95, 1.05)
    with Image.open(path) as image:
        size = [round(side * scale) for side in image.size]
        grey = image.convert("L").resize(size, Image.Resampling.BICUBIC)
    stored = FULL * (np.asarray(grey, np.float32) / 255) ** rng.uniform(0.8, 1.25)
    # Quanta: the noise grows with the square root of the signal.
    noise = rng.choice(NOISE) * np.sqrt(np.maximum(stored, 1) / 2048) + 4
    stored += rng.standard_normal(stored.shape, np.float32) * noise
    return np.clip(np.rint(stored), 0, FULL).astype(np.uint16)


def _dicom(pixels: NDArray[np.generic], case: Case) -> bytes:
    bits = 8 if pixels.itemsize == 1 else 12
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.UID(case.encoding)
    meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = uid.generate_uid(entropy_srcs=[str(case.number)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = f"MONOCHROME{2 - case.number % 2}"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = 0
    window = case.window if bits == 12 else Window(128, 256)
    window.describe(dataset)
    frame = bytes(ENCODERS[case.encoding](pixels))
    dataset.add_new("PixelData", "OB", encapsulate([frame]))
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


@dataclass(frozen=True)
class Differences:
    """What reducing first changes in the scores of some files.

    Attributes:
        logits: float, (files,), the largest difference of a file's logits.
        halvings: int, (files,), how often each was halved while it was decoded.
        left: float, (files,), the picture's pixels for one of the model input.
        flips: the distance from the threshold of each decision that changed.
    """

    logits: NDArray[np.float64]
    halvings: NDArray[np.int64]
    left: NDArray[np.float64]
    flips: tuple[float, ...]


def differences(pairs: list[Pair], model: saved_model.SavedModel) -> Differences:
    """What `model` says of the two inputs of each pair."""
    reduced = [_infer(model, [p.reduced for p in pairs])]
    full = [_infer(model, [p.full for p in pairs])]
    (logits, scores), (full_logits, full_scores) = *reduced, *full
    (threshold,) = model.manifest.operating_points["default"].thresholds
    flipped = (scores >= threshold) != (full_scores >= threshold)
    return Differences(
        logits=np.abs(logits - full_logits).max(axis=1),
        halvings=np.array([p.halvings for p in pairs]),
        left=np.array([p.left for p in pairs]),
        flips=tuple(np.abs(full_scores - threshold)[flipped]),
    )


def _infer(
    model: saved_model.SavedModel, inputs: list[NDArray[np.uint8]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    logits, scores = [], []
    findings = [model.manifest.classes.index(c) for c in model.manifest.findings]
    for start in range(0, len(inputs), BATCH):
        found = model.infer(np.stack(inputs[start : start + BATCH]))
        logits.append(found.logits.astype(np.float64))
        scores.append(found.probabilities[:, findings].sum(axis=1))
    return np.concatenate(logits), np.concatenate(scores)


def table(found: dict[str, Differences]) -> Iterator[str]:
    """One row for each name, in Markdown."""
    yield "| | files | halved | median | 99 % | 99.9 % | largest | decisions changed |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, each in found.items():
        median, most, nearly_all = np.quantile(each.logits, [0.5, 0.99, 0.999])
        halved = "/".join(map(str, np.bincount(each.halvings, minlength=4)))
        yield (
            f"| {name} | {len(each.logits)} | {halved} | {median:.3f} | {most:.3f} "
            f"| {nearly_all:.3f} | {each.logits.max():.3f} | {len(each.flips)} |"
        )


def cases(radiographs: list[Path], count: int, encoding: str) -> list[Case]:
    """`count` radiographs in one encoding."""
    paths = [radiographs[number % len(radiographs)] for number in range(count)]
    return [Case(path, number, encoding) for number, path in enumerate(paths)]


def main() -> None:
    """Print both tables; write a row a file to benchmarks/results/parity.csv."""
    arguments = _parser().parse_args()
    radiographs = sorted(arguments.data.rglob("*.jpeg"))
    if not radiographs:
        sys.exit(f"{arguments.data} holds no .jpeg radiographs")
    model = saved_model.load(arguments.model)
    preparation = replace(
        manifests.load(arguments.model).preparation, max_reduction=arguments.halvings
    )
    read = partial(pair, preparation=preparation)
    groups = {
        name: cases(radiographs, arguments.radiographs, ENCODINGS[name])
        for name in arguments.encodings
    }
    for name, window in WINDOWS.items() if arguments.windows else ():
        every = cases(radiographs, arguments.windows, uid.HTJ2KLossless)
        groups[f"window: {name}"] = [replace(case, window=window) for case in every]
    found = {}
    with get_context("spawn").Pool(arguments.processes) as pool:
        for name, group in groups.items():
            found[name] = differences(pool.map(read, group, chunksize=4), model)
            print(*list(table({name: found[name]}))[2:], flush=True, file=sys.stderr)
    _write(found, arguments.output)
    print(*table(found), sep="\n")
    for name, each in found.items():
        for distance in each.flips:
            print(f"{name}: a decision changed, {distance:.4f} from the threshold")


def _write(found: dict[str, Differences], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "halvings", "left", "difference"))
        for name, each in found.items():
            columns = (each.halvings, each.left, each.logits)
            writer.writerows((name, *row) for row in zip(*columns, strict=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of .jpeg radiographs")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--radiographs", type=int, default=1000, help="an encoding")
    parser.add_argument("--windows", type=int, default=120, help="radiographs a window")
    parser.add_argument("--halvings", type=int, default=8, help="max_reduction")
    parser.add_argument(
        "--encodings", nargs="*", choices=ENCODINGS, default=list(ENCODINGS)
    )
    parser.add_argument("--processes", type=int, default=None)
    results = Path("benchmarks/results/parity.csv")
    parser.add_argument("--output", type=Path, default=results)
    return parser


if __name__ == "__main__":
    main()
