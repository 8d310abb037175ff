"""How much of a model's figures is left on images unlike those it learned from?

    python -m benchmarks.corruptions ../shared/data/chest_xray_224 MODEL_DIR…

Held-out patients are found again from each manifest's patient pattern and seed. Every
held-out image is corrupted in each way of `CORRUPTIONS`, at two strengths: AUC,
sensitivity and specificity at the model's default threshold, and the share of images
whose decision changed. The code of the corruptions shares nothing with that of the
augmentation.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from sklearn.metrics import roc_auc_score

from beam_pipeline import saved_model
from beam_pipeline.calibration import probabilities
from beam_pipeline.saved_model import SavedModel
from trainer.data import dataset, pixels, split
from trainer.data.dataset import Naming
from trainer.data.split import Division

Pixels = NDArray[np.uint8]
Corrupt = Callable[[Image.Image, np.random.Generator], Image.Image]
BATCH = 64


def contrast(factor: float) -> Corrupt:
    """Around the mean grey level."""
    return lambda image, _: ImageEnhance.Contrast(image).enhance(factor)


def brightness(change: int) -> Corrupt:
    """So many grey levels more."""
    return lambda image, _: image.point(lambda value: value + change)


def gamma(exponent: float) -> Corrupt:
    """Darker above 1, lighter below."""
    return lambda image, _: image.point(lambda value: 255 * (value / 255) ** exponent)


def blur(deviation: float) -> Corrupt:
    """Through a Gaussian of so many pixels."""
    return lambda image, _: image.filter(ImageFilter.GaussianBlur(deviation))


def sharpen(percent: int) -> Corrupt:
    """As the edge enhancement of a workstation."""
    return lambda image, _: image.filter(ImageFilter.UnsharpMask(4, percent, 0))


def noise(deviation: float) -> Corrupt:
    """Normal noise of so many grey levels."""

    def corrupt(image: Image.Image, random: np.random.Generator) -> Image.Image:
        noisy = np.asarray(image) + random.normal(0, deviation, image.size[::-1])
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))

    return corrupt


def jpeg(quality: int) -> Corrupt:
    """Compressed once more."""

    def corrupt(image: Image.Image, _: np.random.Generator) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return Image.open(stream).convert("L")

    return corrupt


def crop(share: float) -> Corrupt:
    """So much of each side gone, at a random place."""

    def corrupt(image: Image.Image, random: np.random.Generator) -> Image.Image:
        side = image.width
        gone = share * side
        left, top = random.uniform(0, gone, 2)
        box = (left, top, left + side - gone, top + side - gone)
        return image.resize(image.size, Image.Resampling.BILINEAR, box=box)

    return corrupt


def shrink(share: float) -> Corrupt:
    """Smaller, with black around it."""

    def corrupt(image: Image.Image, _: np.random.Generator) -> Image.Image:
        side = round(image.width * (1 - share))
        framed = Image.new("L", image.size)
        start = (image.width - side) // 2
        framed.paste(
            image.resize((side, side), Image.Resampling.BILINEAR), (start,) * 2
        )
        return framed

    return corrupt


def rotate(degrees: float) -> Corrupt:
    """To either side."""
    return lambda image, random: image.rotate(
        degrees * random.choice((-1, 1)), Image.Resampling.BILINEAR
    )


def collimate(share: float) -> Corrupt:
    """A black border of so much of each side."""

    def corrupt(image: Image.Image, _: np.random.Generator) -> Image.Image:
        edge = round(share * image.width)
        framed = Image.new("L", image.size)
        inner = (edge, edge, image.width - edge, image.height - edge)
        framed.paste(image.crop(inner), inner[:2])
        return framed

    return corrupt


def marker(share: float) -> Corrupt:
    """A white plate of so much of a side in a random corner."""

    def corrupt(image: Image.Image, random: np.random.Generator) -> Image.Image:
        side = round(share * image.width)
        free = image.width - side
        left, top = random.choice((0, free), 2)
        marked = image.copy()
        marked.paste(255, (int(left), int(top), int(left) + side, int(top) + side))
        return marked

    return corrupt


CORRUPTIONS: dict[str, tuple[Corrupt, Corrupt]] = {
    "less contrast": (contrast(0.7), contrast(0.4)),
    "more contrast": (contrast(1.3), contrast(1.7)),
    "darker": (brightness(-20), brightness(-40)),
    "lighter": (brightness(20), brightness(40)),
    "gamma above 1": (gamma(1.3), gamma(1.8)),
    "gamma below 1": (gamma(0.77), gamma(0.55)),
    "blurred": (blur(0.7), blur(1.5)),
    "sharpened": (sharpen(60), sharpen(150)),
    "noise": (noise(6), noise(15)),
    "JPEG": (jpeg(50), jpeg(20)),
    "cropped": (crop(0.1), crop(0.2)),
    "smaller": (shrink(0.1), shrink(0.2)),
    "rotated": (rotate(5), rotate(12)),
    "collimated": (collimate(0.05), collimate(0.1)),
    "marker": (marker(0.1), marker(0.2)),
}


@dataclass(frozen=True)
class Figures:
    """Of one model on one set of images."""

    auc: float
    sensitivity: float
    specificity: float
    changed: float


@dataclass(frozen=True)
class Judge:
    """A model with its threshold, and what it said of the images as they are."""

    model: SavedModel
    positives: NDArray[np.bool_]
    plain: NDArray[np.float64]

    def figures(self, images: Pixels) -> Figures:
        """Of these versions of the images."""
        found = scores(self.model, images)
        threshold = self.model.manifest.operating_points["default"].thresholds[0]
        flagged = found >= threshold
        return Figures(
            auc=float(roc_auc_score(self.positives, found)),
            sensitivity=float(flagged[self.positives].mean()),
            specificity=float((~flagged[~self.positives]).mean()),
            changed=float((flagged != (self.plain >= threshold)).mean()),
        )


def scores(model: SavedModel, images: Pixels) -> NDArray[np.float64]:
    """The score of each image, as the job reckons it."""
    manifest = model.manifest
    logits = np.concatenate(
        [
            model.infer(images[start : start + BATCH]).logits
            for start in range(0, len(images), BATCH)
        ]
    )
    chances = probabilities(logits, manifest.calibration.temperature, manifest.task)
    return np.asarray(chances[:, list(manifest.finding_indices)].sum(axis=1))


def corrupted(images: Pixels, corrupt: Corrupt) -> Pixels:
    """Every image, corrupted; the same again at every call."""
    random = np.random.default_rng(0)
    changed = [
        np.asarray(corrupt(Image.fromarray(image[..., 0]), random)) for image in images
    ]
    return np.stack(changed)[..., np.newaxis]


def table(judge: Judge, images: Pixels) -> Iterator[tuple[str, int, Figures]]:
    """The figures as they are, then of each corruption at strength 1 and 2."""
    yield "as they are", 0, judge.figures(images)
    for name, strengths in CORRUPTIONS.items():
        for strength, corrupt in enumerate(strengths, start=1):
            yield name, strength, judge.figures(corrupted(images, corrupt))


def held_out(data: Path, model: SavedModel, cache: Path) -> tuple[Judge, Pixels]:
    """The model's held-out images, found again from its manifest."""
    manifest = model.manifest
    known = manifest.training_data
    examples = dataset.find(data, Naming(known.patient_pattern))
    parts = split.split(examples, Division(seed=known.seed))
    kept = examples.chosen(parts == "held_out")
    images = np.asarray(pixels.read(kept, manifest.preparation, cache))
    indices = [examples.classes.index(finding) for finding in manifest.findings]
    positives = kept.labels[:, indices].any(axis=1)
    return Judge(model, positives, scores(model, images)), images


def main() -> None:
    """Print a Markdown table for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/results/cache"))
    arguments = parser.parse_args()
    for model_dir in arguments.models:
        model = saved_model.load(model_dir)
        judge, images = held_out(arguments.data, model, arguments.cache)
        print(
            f"\n{model.manifest.name} {model.manifest.version}, {len(images)} images\n"
        )
        print("| corruption | strength | AUC | sensitivity | specificity | changed |")
        print("|---|---|---|---|---|---|")
        rows = list(table(judge, images))
        for name, strength, found in rows:
            print(
                f"| {name} | {strength or ''} | {found.auc:.3f} "
                f"| {found.sensitivity:.3f} | {found.specificity:.3f} "
                f"| {found.changed:.1%} |",
                flush=True,
            )
        mean = np.mean(
            [[f.auc, f.sensitivity, f.specificity, f.changed] for _, s, f in rows if s],
            axis=0,
        )
        print("| mean of all | | {:.3f} | {:.3f} | {:.3f} | {:.1%} |".format(*mean))


if __name__ == "__main__":
    main()
