"""Augmentation varies training images, within bounds and by its numbers."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, optimize

from tests.trainer import films
from trainer import augment
from trainer.data import pixels
from trainer.recipes import RECIPES, Augmentation

NONE = Augmentation(
    rotation=0, shift=0, zoom=0, brightness=0, contrast=0, horizontal_flip=False
)
# Each field by itself, far enough to be seen in some image.
EACH = [
    {"rotation": 15},
    {"shift": 0.2},
    {"shear": 20},
    {"zoom": 0.3},
    {"aspect": 0.3},
    {"crop": 0.3},
    {"horizontal_flip": True},
    {"vertical_flip": True},
    {"brightness": 0.2},
    {"contrast": 0.5},
    {"gamma": 2},
    {"blur": 2},
    {"noise": 0.2},
    {"jpeg_quality": 5},
    {"erase": 1},
    {"collimate": 0.4},
]
EVERYTHING = Augmentation(
    **{name: value for each in EACH for name, value in each.items()}
)


def batches(images, targets=None, size=8):
    targets = np.zeros((len(images), 1)) if targets is None else targets
    rows = np.arange(len(images))
    return pixels.batches(images, targets.astype(np.float32), rows, size)


def vary(images, augmentation, seed=1, epoch=0, size=8):
    """The varied images, float32, (images, height, width, 1)."""
    varied = augment.augmented(batches(images, size=size), augmentation, seed, epoch)
    return np.concatenate([image for image, _ in varied.as_numpy_iterator()])


def only(**change):
    return dataclasses.replace(NONE, **change)


def smooth(count=12, size=41):
    """Images without edges, and without a symmetry, as uint8."""
    random = np.random.default_rng(4)
    noise = random.normal(size=(count, size, size))
    blurred = ndimage.gaussian_filter(noise, (0, 4, 4))
    low, high = blurred.min(axis=(1, 2)), blurred.max(axis=(1, 2))
    scaled = (blurred - low[:, None, None]) / (high - low)[:, None, None]
    return (40 + 175 * scaled).astype(np.uint8)[..., np.newaxis]


@pytest.fixture(scope="module")
def images():
    return films.films(seed=1, count=16)[0]


def test_every_field_is_among_those_tested_here():
    assert {name for each in EACH for name in each} | {"share"} == {
        field.name for field in dataclasses.fields(Augmentation)
    }


def test_a_share_of_the_images_is_left_as_it_is(images):
    many = np.repeat(images, 8, axis=0)
    varied = vary(many, dataclasses.replace(EVERYTHING, share=0.7), size=128)
    kept = (varied == many).all(axis=(1, 2, 3))
    # 128 × 0.3 = 38; so far off it is one time in ten thousand.
    assert 20 <= kept.sum() <= 58


def test_collimated_images_have_black_edges_and_an_unchanged_middle(images):
    white = np.full_like(images, 255)
    varied = vary(white, only(collimate=0.3), size=16)[..., 0]
    changed = (varied != 255).any(axis=(1, 2))
    assert 3 <= changed.sum() <= 13
    middle = varied[:, 10:-10, 10:-10]
    np.testing.assert_array_equal(middle, 255)
    assert set(np.unique(varied)) == {0, 255}


def test_nothing_is_varied_where_every_number_is_0(images):
    np.testing.assert_array_equal(vary(images, NONE), images)


@pytest.mark.parametrize("change", EACH, ids=lambda change: next(iter(change)))
def test_each_number_alone_varies_the_images(images, change):
    changed = np.abs(vary(images, only(**change)) - images).max(axis=(1, 2, 3)) > 5
    # A coin decides about mirroring: 3 of 16 is what it misses one time in 500.
    assert changed.sum() >= 3


@pytest.mark.parametrize(
    "augmentation", [EVERYTHING, RECIPES["mobilenet"].augmentation]
)
def test_a_seed_an_epoch_and_a_batch_decide_everything(images, augmentation):
    first = vary(images, augmentation)
    np.testing.assert_array_equal(vary(images, augmentation), first)
    twice = vary(np.concatenate([images[:8], images[:8]]), augmentation)
    others = [
        vary(images, augmentation, seed=2),
        vary(images, augmentation, epoch=1),
        # The same eight images, in the second batch.
        np.concatenate([twice[8:], first[8:]]),
    ]
    for other in others:
        differences = np.abs(other - first).max(axis=(1, 2, 3))[:8]
        assert (differences > 1).sum() >= 6


def test_images_of_a_batch_are_varied_each_in_its_own_way(images):
    same = np.repeat(images[1:2], 8, axis=0)
    varied = vary(same, RECIPES["mobilenet"].augmentation)
    assert len(np.unique(varied.reshape(8, -1), axis=0)) == 8


@pytest.mark.parametrize("value", [0, 128, 255], ids=["black", "grey", "white"])
def test_values_stay_within_the_range_of_a_picture(value):
    strong = dataclasses.replace(EVERYTHING, brightness=0.9, contrast=0.9, noise=0.5)
    striped = np.full((16, films.SIZE, films.SIZE, 1), value, np.uint8)
    striped[:, ::2] = 255 - value
    varied = vary(striped, strong)
    assert varied.dtype == np.float32
    assert varied.shape == striped.shape
    assert varied.min() >= 0
    assert varied.max() <= 255


def test_targets_stay_with_their_images():
    images, labels = films.films(seed=1, count=40)
    targets = films.one_hot(labels)
    varied = augment.augmented(batches(images, targets), Augmentation(), 1, 0)
    for image, target in varied.as_numpy_iterator():
        # The bright patch of a finding is still the brightest thing there is.
        bright = np.percentile(image, 90, axis=(1, 2, 3)) > 110
        np.testing.assert_array_equal(bright, target[:, 1] == 1)


@pytest.mark.parametrize(
    ("flip", "axis"), [("horizontal_flip", 2), ("vertical_flip", 1)]
)
def test_mirroring_leaves_an_image_as_it_is_or_mirrors_it(images, flip, axis):
    varied = vary(images, only(**{flip: True}))
    kept = (varied == images).all(axis=(1, 2, 3))
    mirrored = (varied == np.flip(images, axis)).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all()
    assert kept.any()
    assert mirrored.any()


def matrix(name, value):
    """Where a place of the result is taken from, about the middle: (y, x) to (y, x)."""
    if name == "rotation":
        cos, sin = np.cos(np.radians(value)), np.sin(np.radians(value))
        return np.array([[cos, sin], [-sin, cos]])
    if name == "shear":
        return np.array([[1, 0], [np.tan(np.radians(value)), 1]])
    if name == "zoom":
        return np.eye(2) / (1 + value)
    return np.diag([1 / (1 + value), 1 + value])


@pytest.mark.parametrize(
    ("name", "largest"),
    [("rotation", 15), ("shear", 20), ("zoom", 0.3), ("aspect", 0.3)],
)
def test_an_image_is_moved_about_its_middle_as_scipy_moves_it(name, largest):
    plain = smooth()
    found = []
    varied = vary(plain, only(**{name: largest}))
    for before, after in zip(plain.astype(np.float64), varied, strict=True):

        def moved(value, before=before[..., 0]):
            turn = matrix(name, value)
            middle = np.array([20.0, 20.0])
            return ndimage.affine_transform(
                before, turn, middle - turn @ middle, order=1, mode="grid-constant"
            )

        def difference(value, after=after[..., 0], moved=moved):
            return np.square(moved(value) - after).mean()

        grid = np.linspace(-largest, largest, 41)
        start = grid[np.argmin([difference(value) for value in grid])]
        step = grid[1] - grid[0]
        best = optimize.minimize_scalar(
            difference, bounds=(start - step, start + step), options={"xatol": 1e-7}
        )
        np.testing.assert_allclose(moved(best.x), after[..., 0], atol=0.1)
        assert abs(best.x) <= largest * 1.001
        found.append(best.x)
    # Uniform from end to end: twelve draws reach this far but one time in a thousand.
    assert min(found) < -0.1 * largest < 0.1 * largest < max(found)
    assert max(np.abs(found)) > 0.5 * largest


def test_a_crop_is_a_part_of_the_image_enlarged():
    plain = smooth()
    varied = vary(plain, only(crop=0.4))
    rows = np.linspace(0, 1, 41)
    shares = []
    for before, after in zip(
        plain[..., 0].astype(np.float64), varied[..., 0], strict=True
    ):

        def cropped(place, before=before):
            top, left, kept = place
            grid = [40 * (start + kept * rows) for start in (top, left)]
            return ndimage.map_coordinates(
                before, np.meshgrid(*grid, indexing="ij"), order=1
            )

        def difference(place, after=after, cropped=cropped):
            return (cropped(place) - after).ravel()

        best = min(
            (
                optimize.least_squares(
                    difference, ((1 - kept) / 2, (1 - kept) / 2, kept)
                )
                for kept in (0.65, 0.8, 0.95)
            ),
            key=lambda result: result.cost,
        )
        np.testing.assert_allclose(cropped(best.x), after, atol=0.5)
        top, left, kept = best.x
        shares.append(kept)
        assert 0.599 <= kept <= 1.001
        assert min(top, left) >= -1e-3
        assert max(top, left) + kept <= 1 + 1e-3
        # Nothing from outside: no black moves in.
        assert after.min() >= before.min() - 1e-3
    assert min(shares) < 0.75


def test_a_shift_moves_no_further_than_it_may_and_moves_in_black():
    grey = np.full((32, 40, 40, 1), 200, np.uint8)
    varied = vary(grey, only(shift=0.1))
    black = (varied < 1).all(axis=2)[..., 0].sum(axis=1)
    assert black.max() <= 4
    assert black.max() > 0
    assert (varied[:, 4:-4, 4:-4] > 199).all()


def test_brightness_moves_no_further_than_its_share_of_the_range():
    grey = np.full((64, 8, 8, 1), 128, np.uint8)
    change = vary(grey, only(brightness=0.1))[:, 0, 0, 0] - 128
    assert np.abs(change).max() <= 25.5 + 1e-3
    assert np.ptp(change) > 25.5


def test_contrast_leaves_the_mean_and_scales_what_is_about_it():
    plain = smooth()
    varied = vary(plain, only(contrast=0.2)).astype(np.float64)
    means = plain.mean(axis=(1, 2, 3), keepdims=True)
    ratios = ((varied - means) * (plain - means)).sum(axis=(1, 2, 3)) / np.square(
        plain - means
    ).sum(axis=(1, 2, 3))
    expected = (plain - means) * ratios[:, None, None, None] + means
    np.testing.assert_allclose(varied, expected, atol=1e-2)
    assert ratios.min() >= 0.8 - 1e-4
    assert ratios.max() <= 1.2 + 1e-4
    assert np.ptp(ratios) > 0.2


def test_gamma_is_a_power_from_its_inverse_to_itself():
    ramp = np.repeat(np.arange(0, 255, 8, np.uint8)[None, :, None], 32, axis=0)
    ramp = np.repeat(ramp[..., None], 8, axis=2)
    varied = vary(ramp, only(gamma=2))[:, :, 0, 0] / 255
    shares = ramp[0, 1:, 0, 0] / 255
    exponents = np.log(varied[:, 16]) / np.log(shares[15])
    np.testing.assert_allclose(
        varied[:, 1:], shares ** exponents[:, np.newaxis], atol=1e-4
    )
    assert 0.5 <= exponents.min() < 0.7
    assert 1.5 < exponents.max() <= 2


def test_a_blur_is_that_of_scipy():
    random = np.random.default_rng(1)
    plain = random.integers(0, 256, (12, 24, 20, 1), np.uint8)
    deviations = []
    varied = vary(plain, only(blur=1.5))
    for before, after in zip(plain.astype(np.float64), varied, strict=True):

        def blurred(deviation, before=before[..., 0]):
            return ndimage.gaussian_filter(
                before, max(deviation, 0.05), mode="mirror", radius=4
            )

        def difference(deviation, after=after[..., 0], blurred=blurred):
            return np.square(blurred(deviation) - after).mean()

        best = optimize.minimize_scalar(
            difference, bounds=(0, 2), method="bounded", options={"xatol": 1e-7}
        )
        np.testing.assert_allclose(blurred(best.x), after[..., 0], atol=0.05)
        deviations.append(best.x)
    assert max(deviations) <= 1.5001
    assert np.ptp(deviations) > 0.5


def test_noise_has_no_larger_deviation_than_its_share_of_the_range():
    grey = np.full((16, 64, 64, 1), 128, np.uint8)
    added = vary(grey, only(noise=0.1)).astype(np.float64) - 128
    deviations = added.std(axis=(1, 2, 3))
    assert deviations.max() <= 25.5 * 1.03
    assert np.ptp(deviations) > 10
    assert np.abs(added.mean(axis=(1, 2, 3))).max() < 2
    one, other = added[:2].reshape(2, -1)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


def test_a_jpeg_lowers_quality_in_half_of_the_images():
    plain = smooth(count=40)
    varied = vary(plain, only(jpeg_quality=30))
    differences = np.abs(varied - plain).mean(axis=(1, 2, 3))
    assert 8 <= (differences == 0).sum() <= 32
    assert 0.1 < differences.max() < 4
    coarse = np.abs(vary(plain, only(jpeg_quality=1)) - plain).mean(axis=(1, 2, 3))
    assert coarse.max() > differences.max()


def test_with_a_jpeg_values_are_whole_as_those_that_are_served():
    varied = vary(smooth(), dataclasses.replace(EVERYTHING, jpeg_quality=50))
    np.testing.assert_array_equal(varied, np.round(varied))


def test_a_share_of_the_images_has_rectangles_at_the_borders_painted_over():
    plain = smooth(count=48)
    changed = (vary(plain, only(erase=0.5)) != plain)[..., 0]
    touched = changed.any(axis=(1, 2))
    assert 12 <= touched.sum() <= 36
    # The deepest is a tenth of a side, and lies at a border.
    assert not changed[:, 5:-5, 5:-5].any()
    for place in changed[touched]:
        border = np.concatenate([place[0], place[-1], place[:, 0], place[:, -1]])
        assert border.any()
        assert place.mean() < 0.25


def test_augmentation_keeps_shapes_known_to_the_graph(images):
    varied = augment.augmented(batches(images), EVERYTHING, 1, 0)
    image, target = varied.element_spec
    assert (tuple(image.shape), image.dtype) == ((None, 32, 32, 1), tf.float32)
    assert tuple(target.shape) == (None, 1)


def test_nothing_stands_between_a_user_and_the_epochs():
    code = (
        "from beam_pipeline import saved_model\n"
        "tf = saved_model.tensorflow()\n"
        "tf.config.experimental.enable_op_determinism()\n"
        "from trainer import augment, recipes\n"
        "images = tf.zeros((4, 32, 32, 1), tf.uint8), tf.zeros((4, 2))\n"
        "batches = tf.data.Dataset.from_tensor_slices(images).batch(2)\n"
        "print(len(list(augment.augmented(batches, recipes.Augmentation(), 1, 1))))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("2\n", "")
