"""Class folders → images, labels and patients; patients → three parts; parts → tf.data.

Images are read by `beam_pipeline.images`: a model learns from what it will be served.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from blake3 import blake3
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from beam_pipeline import images
from beam_pipeline.errors import NotScored
from beam_pipeline.manifest import Part, Preparation

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

PARTS = ("training", "validation", "held_out")
# A twentieth of the patients is one fold; so many folds go to each part.
_FOLDS = {"training": 15, "validation": 2, "held_out": 3}
_SHOWN = 5


class DatasetError(ValueError):
    """A data set that cannot be trained on: what is wrong, and where."""


@dataclass(frozen=True)
class Examples:
    """Labelled files, before their pixels are read.

    Attributes:
        classes: class names, sorted; a label is a position in it.
        paths: one for each image.
        labels: int64, (images,).
        patients: str, (images,); images of one patient stay in one part.
        duplicates: how many byte-identical files were left out.
        files_without_patient: how many names the patient pattern did not match.
    """

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: Labels
    patients: NDArray[np.str_]
    duplicates: int
    files_without_patient: int


def find(data: Path, patient_pattern: str) -> Examples:
    """The images below `data`, whose folder is their class.

    `data/CLASS/…` and `data/SPLIT/CLASS/…` are both understood: the folder next to a
    file names its class. Byte-identical copies are left out, so that none can stand in
    two parts.

    Raises:
        DatasetError: no images, one class, one image under two classes, or a pattern
            that is no regular expression.
    """
    try:
        pattern = re.compile(patient_pattern)
    except re.error as error:
        raise DatasetError(
            f"{patient_pattern!r} is no regular expression: {error}"
        ) from error
    files = sorted(path for path in data.rglob("*") if _is_visible(path))
    classes = tuple(sorted({path.parent.name for path in files}))
    if len(classes) < 2:
        raise DatasetError(
            f"{data} has {len(classes)} class folders with files in them "
            f"({', '.join(classes) or 'none'}); two or more are needed, as in "
            f"{data}/NORMAL/… and {data}/PNEUMONIA/…"
        )
    kept = _without_copies(files)
    patients = [_patient(path, pattern) for path in kept]
    return Examples(
        classes=classes,
        paths=tuple(kept),
        labels=np.array([classes.index(path.parent.name) for path in kept]),
        patients=np.array([patient for patient, _ in patients]),
        duplicates=len(files) - len(kept),
        files_without_patient=sum(not found for _, found in patients),
    )


def _is_visible(path: Path) -> bool:
    # .DS_Store and its like are in many folders, and are nobody's image.
    return path.is_file() and not path.name.startswith(".")


def _without_copies(files: Iterable[Path]) -> list[Path]:
    first: dict[bytes, Path] = {}
    for path in files:
        other = first.setdefault(blake3(path.read_bytes()).digest(), path)
        if other.parent.name != path.parent.name:
            raise DatasetError(
                f"{other} and {path} are the same image under two classes; "
                "keep the one that is right"
            )
    return list(first.values())


def _patient(path: Path, pattern: re.Pattern[str]) -> tuple[str, bool]:
    match = pattern.search(path.name)
    key = match[match.lastindex or 0] if match else path.stem
    # Numbers restart in each class, and in a test folder: other children, same name.
    pool = "test" if path.parent.parent.name == "test" else ""
    return f"{pool}/{path.parent.name}/{key}", match is not None


def split(examples: Examples, seed: int) -> NDArray[np.str_]:
    """The part of each image: `training`, `validation` or `held_out`, (images,).

    Stratified by class, and all images of a patient in one part.

    Raises:
        DatasetError: a class with too few patients to stand in every part.
    """
    folds = sum(_FOLDS.values())
    for index, name in enumerate(examples.classes):
        patients = len(set(examples.patients[examples.labels == index]))
        if patients < folds:
            raise DatasetError(
                f"class {name} has {patients} patients; {folds} or more are needed to "
                "split them into training, validation and held-out patients"
            )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    part_of_fold = [part for part in PARTS for _ in range(_FOLDS[part])]
    parts = np.empty(len(examples.paths), dtype="<U10")
    indices = np.zeros((len(examples.paths), 1))
    rows = splitter.split(indices, examples.labels, examples.patients)
    for part, (_, fold) in zip(part_of_fold, rows, strict=True):
        parts[fold] = part
    return parts


def describe(examples: Examples, parts: NDArray[np.str_]) -> dict[str, Part]:
    """What each part holds, for the manifest."""
    described = {}
    for part in PARTS:
        chosen = parts == part
        counts = Counter(examples.labels[chosen].tolist())
        described[part] = Part(
            patients=len(set(examples.patients[chosen])),
            images=int(chosen.sum()),
            images_by_class={
                name: counts[index] for index, name in enumerate(examples.classes)
            },
        )
    return described


def read(examples: Examples, preparation: Preparation) -> Images:
    """Every image as model input: uint8, (images, height, width, 1).

    Raises:
        DatasetError: a file that cannot be read; all of them are counted.
    """
    shape = (len(examples.paths), preparation.height, preparation.width, 1)
    pixels = np.empty(shape, np.uint8)
    unread = []
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda path: _read_one(path, preparation), examples.paths)
        for index, result in enumerate(results):
            if isinstance(result, NotScored):
                unread.append(f"{examples.paths[index]}: {result}")
            else:
                pixels[index] = result
    if unread:
        raise DatasetError(
            f"{len(unread)} files cannot be read; mend or remove them:\n  "
            + "\n  ".join(unread[:_SHOWN])
        )
    return pixels


def _read_one(path: Path, preparation: Preparation) -> Images | NotScored:
    try:
        with path.open("rb") as stream:
            header = images.read_header(stream)
        picture = images.decode(path.read_bytes(), header)
    except NotScored as error:
        return error
    return images.prepare(picture.pixels, preparation)


def batches(
    pixels: Images,
    labels: Labels,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
) -> tf.data.Dataset:
    """(uint8 images, int64 labels) in batches; shuffled anew each epoch with a seed."""
    # Indices are shuffled and pixels gathered a batch at a time: tensors made of the
    # whole array would hold it twice.
    order = tf.data.Dataset.range(len(labels))
    if shuffle_seed is not None:
        order = order.shuffle(len(labels), seed=shuffle_seed)

    def gather(
        chosen: Labels,
    ) -> tuple[Images, Labels]:
        return pixels[chosen], labels[chosen]

    def load(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = tf.numpy_function(gather, [chosen], (tf.uint8, tf.int64))
        image.set_shape((None, *pixels.shape[1:]))
        label.set_shape((None,))
        return image, label

    return order.batch(batch_size).map(load).prefetch(2)
