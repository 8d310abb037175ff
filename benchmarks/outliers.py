"""Which images does a model's outlier score tell from its own kind, and flag?

    python -m benchmarks.outliers models/pneumonia ../shared/data/chest_xray_224 \
        --full_size ../shared/data/chest_xray_full --other others

Held-out patients are found again from the manifest's patient pattern and seed. Each
group is held against all of their images: AUROC, with its 95 % DeLong interval over
patients, and the share that is flagged, with its Wilson interval. Groups: variations of
the held-out images themselves; the same hospital's radiographs at full size, of
patients the score was not fitted on; pages and noise made here; and one group for each
folder in `--other`, which `benchmarks.outlier_images` gathers. Every file is read as
the job reads it, whatever its header says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from beam_pipeline import images, saved_model
from beam_pipeline.errors import NotScored
from beam_pipeline.manifest import Outlier, Preparation
from beam_pipeline.saved_model import SavedModel
from trainer.data import dataset, split
from trainer.data.dataset import Examples, Naming
from trainer.data.pixels import read_one
from trainer.data.split import Division
from trainer.evaluation import delong
from trainer.evaluation.intervals import Absent

Pixels = NDArray[np.uint8]
Vary = Callable[[Pixels, np.random.Generator], Pixels]
BATCH = 32
MADE = 200


@dataclass(frozen=True)
class Group:
    """Images of one kind, with the patient of each, where they have one."""

    name: str
    pixels: Pixels
    patients: NDArray[np.str_]


def crop(share: float) -> Vary:
    """A square of so large a share of each side, anywhere, enlarged."""

    def vary(image: Pixels, random: np.random.Generator) -> Pixels:
        side = round(share * len(image))
        top, left = random.integers(len(image) - side + 1, size=2)
        part = image[top : top + side, left : left + side, 0]
        return resized(part, len(image))

    return vary


def small(image: Pixels, _: np.random.Generator) -> Pixels:
    """At half its size in the middle of a black picture."""
    side = len(image) // 2
    start = side // 2
    framed = np.zeros_like(image)
    framed[start : start + side, start : start + side] = resized(image[..., 0], side)
    return framed


def half(image: Pixels, _: np.random.Generator) -> Pixels:
    """The right half black."""
    covered = image.copy()
    covered[:, image.shape[1] // 2 :] = 0
    return covered


def gamma(exponent: float) -> Vary:
    """Darker above 1, lighter below."""
    return lambda image, _: (255 * (image / 255) ** exponent).astype(np.uint8)


def blurred(image: Pixels, _: np.random.Generator) -> Pixels:
    """Through a Gaussian of 1 pixel."""
    picture = Image.fromarray(image[..., 0]).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(picture)[..., np.newaxis]


def resized(picture: Pixels, side: int) -> Pixels:
    """A square model input of a picture."""
    return images.prepare(picture, Preparation(height=side, width=side))


LIKE: dict[str, Vary] = {
    "mirrored": lambda image, _: image[:, ::-1],
    "darker (gamma 2)": gamma(2),
    "lighter (gamma 0.5)": gamma(0.5),
    "a tenth of the contrast": lambda image, _: (image * 0.1 + 100).astype(np.uint8),
    "blurred": blurred,
}
UNLIKE: dict[str, Vary] = {
    "inverted": lambda image, _: 255 - image,
    "rotated by 90°": lambda image, _: np.rot90(image, 1),
    "rotated by 180°": lambda image, _: np.rot90(image, 2),
    "rotated by 270°": lambda image, _: np.rot90(image, 3),
    "upside down": lambda image, _: image[::-1],
    "cropped to 80 % of a side": crop(0.8),
    "cropped to 50 % of a side": crop(0.5),
    "cropped to 33 % of a side": crop(1 / 3),
    "half of it black": half,
    "half the size on black": small,
}


def page(random: np.random.Generator, side: int) -> Pixels:
    """A letter of random words, as a scanner would leave it."""
    sheet = Image.new("L", (850, 1100), 255)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    letters = np.array(list("abcdefghijklmnoprstu     "))
    for top in range(60, int(random.integers(300, 1040)), 22):
        draw.text((60, top), "".join(random.choice(letters, 75)), 0, font)
    return resized(np.asarray(sheet), side)


def clouds(random: np.random.Generator, side: int) -> Pixels:
    """Noise smoothed over 4 to 40 pixels."""
    field = gaussian_filter(random.normal(size=(side, side)), random.uniform(4, 40))
    return stretched(field)


def stretched(field: NDArray[np.float64]) -> Pixels:
    """Any numbers as grey levels from 0 to 255."""
    shown = (field - field.min()) / np.ptp(field) * 255
    return shown.astype(np.uint8)[..., np.newaxis]


MAKE: dict[str, Callable[[np.random.Generator, int], Pixels]] = {
    "pages of text": page,
    "noise, uniform": lambda random, side: stretched(random.random((side, side))),
    "noise, normal": lambda random, side: stretched(random.normal(size=(side, side))),
    "noise, smooth": clouds,
}


def main() -> None:
    """Print a Markdown table of every group."""
    arguments = _parser().parse_args()
    model = saved_model.load(arguments.model)
    if model.manifest.outlier is None:
        sys.exit(f"{arguments.model} gives no outlier score")
    data = model.manifest.training_data
    examples = dataset.find(arguments.data, Naming(data.patient_pattern))
    parts = split.split(examples, Division(seed=data.seed))
    held_out = read_held_out(examples, parts, model)
    inside = scores(model, held_out.pixels)
    outlier = model.manifest.outlier
    print(f"{arguments.model}: {outlier.method}; flagged beyond {outlier.limit:.3f},")
    print(f"the {outlier.flag_above} quantile of {outlier.chosen_on} images\n")
    print("| group | images | median score | AUROC | flagged |\n|---|---|---|---|---|")
    middle, flagged = np.median(inside), flags(inside, outlier)
    print(f"| held out | {len(inside)} | {middle:.2f} | | {flagged} |")
    for group in groups(arguments, model, held_out, (examples, parts)):
        outside = scores(model, group.pixels)
        print(
            f"| {group.name} | {len(outside)} | {np.median(outside):.2f} "
            f"| {auroc(held_out, inside, group, outside)} "
            f"| {flags(outside, outlier)} |",
            flush=True,
        )


def read_held_out(
    examples: Examples, parts: NDArray[np.str_], model: SavedModel
) -> Group:
    """The images of the patients whom nothing was fitted on."""
    chosen = np.flatnonzero(parts == "held_out")
    paths = [examples.paths[index] for index in chosen]
    pixels, _ = read(paths, model.manifest.preparation)
    return Group("held out", pixels, examples.patients[chosen])


def groups(
    arguments: argparse.Namespace,
    model: SavedModel,
    held_out: Group,
    divided: tuple[Examples, NDArray[np.str_]],
) -> Iterator[Group]:
    """All groups, one at a time."""
    random = np.random.default_rng(0)
    preparation = model.manifest.preparation
    if arguments.full_size:
        yield full_size(arguments.full_size, preparation, *divided)
    for name, vary in {**LIKE, **UNLIKE}.items():
        varied = np.stack([vary(image, random) for image in held_out.pixels])
        yield Group(name, varied, held_out.patients)
    for name, make in MAKE.items():
        made = np.stack([make(random, preparation.height) for _ in range(MADE)])
        yield Group(name, made, strangers(MADE))
    for folder in sorted(arguments.other.iterdir()) if arguments.other else ():
        pixels, refused = read(sorted(folder.iterdir()), preparation)
        name = folder.name + (f" ({refused} more were refused)" if refused else "")
        if len(pixels):
            yield Group(name, pixels, strangers(len(pixels)))


def full_size(
    folder: Path, preparation: Preparation, examples: Examples, parts: NDArray[np.str_]
) -> Group:
    """Full-size files of patients that are not in the training part."""
    patient = {
        path.name: patient
        for path, patient, part in zip(
            examples.paths, examples.patients, parts, strict=True
        )
        if part != "training"
    }
    paths = [path for path in sorted(folder.rglob("*.jpeg")) if path.name in patient]
    pixels, _ = read(paths, preparation)
    owners = np.array([patient[path.name] for path in paths])
    return Group("at full size, reduced by the job", pixels, owners)


def read(paths: list[Path], preparation: Preparation) -> tuple[Pixels, int]:
    """Files as model inputs, and how many were refused for their pixels."""
    inputs = [read_one(path, preparation) for path in paths]
    read = [each for each in inputs if not isinstance(each, NotScored)]
    none = np.empty((0, preparation.height, preparation.width, 1), np.uint8)
    return np.stack(read) if read else none, len(paths) - len(read)


def strangers(count: int) -> NDArray[np.str_]:
    """A patient for each image, and none of them a known one."""
    return np.array([f"stranger {index}" for index in range(count)])


def scores(model: SavedModel, pixels: Pixels) -> NDArray[np.float64]:
    """The outlier score of each image."""
    found = [
        model.infer(pixels[start : start + BATCH]).outlier_score
        for start in range(0, len(pixels), BATCH)
    ]
    return np.concatenate(found).astype(np.float64)


def auroc(
    held_out: Group,
    inside: NDArray[np.float64],
    group: Group,
    outside: NDArray[np.float64],
) -> str:
    """How well the score tells a group from the held-out images, with its interval."""
    kind = np.repeat([False, True], [len(inside), len(outside)])
    both = np.concatenate([inside, outside])
    patients = np.concatenate([held_out.patients, group.patients])
    found = delong.auc(kind, both, patients)
    if isinstance(found, Absent):
        return f"{roc_auc_score(kind, both):.3f}"
    return f"{found.value:.3f} ({found.low:.3f}–{found.high:.3f})"


def flags(found: NDArray[np.float64], outlier: Outlier) -> str:
    """The share beyond the limit, with its interval."""
    flagged = int((~(found <= outlier.limit)).sum())
    interval = binomtest(flagged, len(found)).proportion_ci(method="wilson")
    share = flagged / len(found)
    return f"{share:.1%} ({interval.low:.1%}–{interval.high:.1%})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="model directory")
    parser.add_argument("data", type=Path, help="what it was trained on")
    parser.add_argument("--full_size", type=Path, help="the same at their full size")
    parser.add_argument("--other", type=Path, help="a folder with a folder a group")
    return parser


if __name__ == "__main__":
    main()
