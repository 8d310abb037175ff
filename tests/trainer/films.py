"""Labelled films, made in code, where a finding is a bright patch; a tiny backbone."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.data.dataset import Examples
from trainer.fit import Lessons

CLASSES = ("NORMAL", "PNEUMONIA")
SIZE = 32


def film(
    random: np.random.Generator, finding: bool, rows: int = SIZE, columns: int = SIZE
) -> NDArray[np.uint8]:
    """A noisy picture, with a bright patch near its middle when there is a finding."""
    picture = random.integers(20, 60, (rows, columns))
    if finding:
        top, left = random.integers(rows // 4, rows // 3, 2)
        picture[top : top + rows // 2, left : left + columns // 2] += 150
    return picture.astype(np.uint8)


def films(seed: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Model inputs (count, SIZE, SIZE, 1) and labels, normal and finding in turn."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = np.stack([film(random, bool(label)) for label in labels])
    return pixels[..., np.newaxis], labels


def write_class_folders(folder: Path, patients: int = 40, images: int = 60) -> Path:
    """`folder/CLASS/*.png`, named as Kermany 2018; some patients have two images."""
    random = np.random.default_rng(0)
    names = {"NORMAL": "IM-{:04d}-{:04d}.png", "PNEUMONIA": "person{}_virus_{}.png"}
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for index in range(images):
            pixels = film(random, name == "PNEUMONIA", rows=40, columns=36)
            file = names[name].format(index % patients, index)
            Image.fromarray(pixels).save(folder / name / file)
    return folder


def write_numbered(folder: Path, numbers: Iterable[int]) -> None:
    """Tiny files that all differ, each of a patient of its own."""
    folder.mkdir(parents=True)
    for number in numbers:
        pixels = np.array([[0, number], [255, 128]], np.uint8)
        Image.fromarray(pixels).save(folder / f"person{number}.png")


def write_table(
    folder: Path, rows: Iterable[Mapping[str, str]], name: str = "table.csv"
) -> Path:
    """A CSV of these rows, which have the same keys."""
    rows = list(rows)
    with (folder / name).open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder / name


def examples(images_of_patients: Sequence[Sequence[int]]) -> Examples:
    """Examples without files: for each class, how many images each patient has."""
    labels, patients = [], []
    for label, counts in enumerate(images_of_patients):
        for patient, count in enumerate(counts):
            labels += [label] * count
            patients += [f"/{label}/{patient}"] * count
    classes = len(images_of_patients)
    return Examples(
        task="binary" if classes == 2 else "multiclass",
        classes=tuple(f"CLASS{label}" for label in range(classes)),
        root=Path(),
        paths=tuple(Path(f"{index}.png") for index in range(len(labels))),
        labels=one_hot(np.array(labels), classes),
        patients=np.array(patients),
        duplicates=0,
        files_without_patient=0,
        given_parts=np.array([""] * len(labels)),
    )


def one_hot(labels: NDArray[np.int64], classes: int = 2) -> NDArray[np.bool_]:
    """Labels as bool, (images, classes)."""
    return labels[:, np.newaxis] == np.arange(classes)


def lessons(training: int, validation: int, *, misled: bool = False) -> Lessons:
    """Films to learn from; where `misled`, every validation label is wrong."""
    pixels, labels = films(1, training + validation)
    rows = np.arange(training + validation)
    targets = one_hot(labels).astype(np.float32)
    known = np.where(misled & (rows >= training), 1 - labels, labels)
    return Lessons(
        task="binary",
        pixels=pixels,
        labels=one_hot(known),
        targets=targets,
        training=rows[:training],
        validation=rows[training:],
    )


def tiny_backbone(
    *, include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> keras.Model:
    """Two convolutions with BatchNormalization, built as in `keras.applications`."""
    assert not include_top
    image = keras.Input(input_shape)
    features = image
    for index in range(2):
        features = keras.layers.Conv2D(8, 3, strides=2, name=f"conv{index}")(features)
        features = keras.layers.BatchNormalization(name=f"norm{index}")(features)
        features = keras.layers.ReLU()(features)
    model = keras.Model(image, features)
    if weights is not None:
        model.load_weights(weights)
    return model
