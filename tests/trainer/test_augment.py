"""Augmentation varies training images, within bounds and by its numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.trainer import films
from trainer import augment, dataset
from trainer.recipes import Augmentation

NONE = Augmentation(
    rotation=0, shift=0, zoom=0, brightness=0, contrast=0, horizontal_flip=False
)


def vary(pixels, augmentation, seed=1, epochs=1):
    """The varied images, (epochs × images, height, width, 1)."""
    batches = dataset.batches(pixels, np.zeros(len(pixels), np.int64), 8)
    varied = augment.augmented(batches, augmentation, seed)
    return np.concatenate(
        [image for _ in range(epochs) for image, _ in varied.as_numpy_iterator()]
    )


@pytest.fixture(scope="module")
def pixels():
    return films.films(seed=1, count=16)[0]


def test_a_seed_gives_the_same_images_again_and_another_seed_others(pixels):
    first, again, other = (vary(pixels, Augmentation(), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 10


def test_every_epoch_has_other_images(pixels):
    first, second = np.split(vary(pixels, Augmentation(), epochs=2), 2)
    assert (np.abs(first - second).max(axis=(1, 2, 3)) > 10).all()


@pytest.mark.parametrize("value", [0, 128, 255], ids=["black", "grey", "white"])
def test_values_stay_within_the_range_of_a_picture(value):
    strong = Augmentation(
        rotation=40, shift=0.3, zoom=0.3, brightness=0.9, contrast=0.9
    )
    pixels = np.full((16, films.SIZE, films.SIZE, 1), value, np.uint8)
    pixels[:, ::2] = 255 - value
    varied = vary(pixels, strong)
    assert varied.dtype == np.float32
    assert varied.min() >= 0
    assert varied.max() <= 255


def test_labels_stay_with_their_images():
    pixels, labels = films.films(seed=1, count=40)
    varied = augment.augmented(dataset.batches(pixels, labels, 8), Augmentation(), 1)
    for image, label in varied.as_numpy_iterator():
        # The bright patch of a finding is still the brightest thing there is.
        bright = np.percentile(image, 90, axis=(1, 2, 3)) > 110
        np.testing.assert_array_equal(bright, label == 1)


def test_nothing_is_varied_where_every_number_is_0(pixels):
    np.testing.assert_allclose(vary(pixels, NONE), pixels, atol=0.01)


@pytest.mark.parametrize(
    "change",
    [
        {"rotation": 15},
        {"shift": 0.2},
        {"zoom": 0.3},
        {"brightness": 0.2},
        {"contrast": 0.5},
        {"horizontal_flip": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_number_alone_varies_the_images(pixels, change):
    varied = vary(pixels, dataclasses.replace(NONE, **change))
    changed = np.abs(varied - pixels).max(axis=(1, 2, 3)) > 5
    # A coin decides about mirroring: 3 of 16 is what it misses one time in 500.
    assert changed.sum() >= 3


def test_mirroring_leaves_an_image_as_it_is_or_mirrors_it(pixels):
    varied = vary(pixels, dataclasses.replace(NONE, horizontal_flip=True))
    kept = np.isclose(varied, pixels, atol=0.01).all(axis=(1, 2, 3))
    mirrored = np.isclose(varied, pixels[:, :, ::-1], atol=0.01).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all()
    assert kept.any()
    assert mirrored.any()


def test_a_shift_moves_no_further_than_it_may_and_moves_in_black():
    pixels = np.full((32, 40, 40, 1), 200, np.uint8)
    varied = vary(pixels, dataclasses.replace(NONE, shift=0.1))
    black = (varied < 1).all(axis=2)[..., 0].sum(axis=1)
    assert black.max() <= 4
    assert black.max() > 0
    assert (varied[:, 4:-4, 4:-4] > 199).all()


def test_brightness_moves_no_further_than_its_share_of_the_range():
    pixels = np.full((64, 8, 8, 1), 128, np.uint8)
    varied = vary(pixels, dataclasses.replace(NONE, brightness=0.1))
    change = varied[:, 0, 0, 0] - 128
    assert np.abs(change).max() <= 25.5 + 1e-3
    assert np.ptp(change) > 25.5


def test_outside_training_images_are_left_alone(pixels):
    found = augment.augmenter(Augmentation(), seed=1)(
        pixels.astype(np.float32), training=False
    )
    np.testing.assert_array_equal(found, pixels)
