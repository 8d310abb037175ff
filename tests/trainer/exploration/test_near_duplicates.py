"""The same exposure is near, another is not, and every pair is found."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from trainer.exploration import near_duplicates, survey

SIDE = 448


def scene(seed):
    """A smooth picture with something at every scale, unlike that of another seed."""
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
    picture = sum(s * gaussian_filter(noise, s) for s in (4, 10, 25, 60))
    scaled = (picture - picture.min()) / (picture.max() - picture.min())
    return Image.fromarray((40 + 170 * scaled).astype(np.uint8))


def hashed(*pictures):
    resized = [np.asarray(p.resize((survey.SIDE, survey.SIDE))) for p in pictures]
    return near_duplicates.hashes(np.stack([survey.reduced(p) for p in resized]))


def distance(one, other):
    return int(np.bitwise_count(hashed(one) ^ hashed(other)).sum())


def saved_anew(picture):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=40)
    return Image.open(stream)


@pytest.mark.parametrize(
    "change",
    [
        saved_anew,
        lambda picture: picture.resize((SIDE // 2, SIDE // 2)),
        lambda picture: ImageEnhance.Brightness(picture).enhance(1.15),
        lambda picture: ImageEnhance.Contrast(picture).enhance(1.2),
    ],
    ids=["saved anew", "halved", "brighter", "more contrast"],
)
def test_the_same_exposure_is_near(change):
    assert distance(scene(1), change(scene(1))) <= near_duplicates.AT_MOST


@pytest.mark.parametrize(
    "other", [scene(2), scene(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
)
def test_another_exposure_is_far(other):
    assert distance(scene(1), other) > 3 * near_duplicates.AT_MOST


def test_all_pairs_are_those_of_a_comparison_one_by_one():
    random = np.random.default_rng(3)
    bits = random.random((700, near_duplicates.BITS)) < 0.5
    # Some are copies of others with a few bits turned, in other blocks too.
    for row in range(0, 700, 7):
        bits[row] = bits[random.integers(700)]
        bits[row, random.integers(0, near_duplicates.BITS, 20)] ^= True
    packed = np.packbits(np.pad(bits, ((0, 0), (0, 1))), axis=1).view(np.uint64)
    found = near_duplicates.neighbours(packed)
    differing = (bits[:, None] != bits[None]).sum(axis=2)
    first, second = np.nonzero(np.triu(differing <= near_duplicates.AT_MOST, k=1))
    assert found.pairs.tolist() == np.stack([first, second], axis=1).tolist()
    assert len(first) > 50
    assert found.pair_distances.tolist() == differing[first, second].tolist()
    np.fill_diagonal(differing, 999)
    assert found.distance.tolist() == differing.min(axis=1).tolist()
    assert (differing[np.arange(700), found.nearest] == found.distance).all()


@pytest.mark.parametrize("count", [0, 1])
def test_an_image_alone_has_no_neighbour(count):
    found = near_duplicates.neighbours(np.zeros((count, 4), np.uint64))
    assert found.nearest.tolist() == [-1] * count
    assert found.pairs.shape == (0, 2)
