"""Class folders become images, labels, patients and parts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from beam_pipeline import images
from beam_pipeline.manifest import Preparation
from tests.trainer import films
from trainer import dataset
from trainer.dataset import DatasetError

PATTERN = r"^(person\d+|IM-\d+)"


def write(folder, *names):
    """A file for each name, each with content of its own; `name=content` sets it."""
    for name in names:
        path, _, content = name.partition("=")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content or path, "utf-8")
    return folder


def labelled(found):
    """By path name: (class, patient)."""
    rows = zip(found.paths, found.labels, found.patients, strict=True)
    return {path.name: (found.classes[label], p) for path, label, p in rows}


def test_labels_follow_the_folders(tmp_path):
    write(tmp_path, "VIRUS/b.png", "NORMAL/a.png", "BACTERIA/c.png", "NORMAL/d.png")
    found = dataset.find(tmp_path, PATTERN)
    assert found.classes == ("BACTERIA", "NORMAL", "VIRUS")
    assert {name: label for name, (label, _) in labelled(found).items()} == {
        "a.png": "NORMAL",
        "b.png": "VIRUS",
        "c.png": "BACTERIA",
        "d.png": "NORMAL",
    }


def test_folders_of_a_published_split_are_put_together(tmp_path):
    write(
        tmp_path,
        "train/NORMAL/IM-1-1.png",
        "train/PNEUMONIA/person1_1.png",
        "val/NORMAL/IM-1-2.png",
        "val/PNEUMONIA/person2_2.png",
    )
    found = dataset.find(tmp_path, PATTERN)
    assert found.classes == ("NORMAL", "PNEUMONIA")
    assert np.bincount(found.labels).tolist() == [2, 2]
    patients = labelled(found)
    assert patients["IM-1-1.png"] == patients["IM-1-2.png"]
    assert patients["person1_1.png"] != patients["person2_2.png"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("B/person1_a.png", "B/person1_b.png", True),
        ("B/person1_a.png", "B/person12_a.png", False),
        ("B/person1_a.png", "B/deep/B/person1_b.png", True),
        ("B/person1_a.png", "A/person1_b.png", False),
        ("train/B/person1_a.png", "val/B/person1_b.png", True),
        ("train/B/person1_a.png", "test/B/person1_b.png", False),
        ("B/scan1.png", "B/scan2.png", False),
    ],
    ids=[
        "one number",
        "two numbers",
        "deeper",
        "another class",
        "training and validation folder",
        "test folder",
        "no number",
    ],
)
def test_whose_image_it_is_follows_from_the_name(tmp_path, one, other, same):
    write(tmp_path, one, other, "A/x.png", "B/y.png")
    found = dataset.find(tmp_path, PATTERN)
    patients = {
        path.relative_to(tmp_path).as_posix(): patient
        for path, patient in zip(found.paths, found.patients, strict=True)
    }
    assert (patients[one] == patients[other]) is same


def test_a_pattern_without_a_group_matches_as_a_whole(tmp_path):
    write(tmp_path, "A/p1-a.png", "A/p1-b.png", "A/p2-a.png", "B/p1-a.png")
    found = dataset.find(tmp_path, r"p\d")
    assert len(set(found.patients)) == 3


def test_files_without_a_patient_are_counted_and_stand_alone(tmp_path):
    write(tmp_path, "A/person1_a.png", "A/scan1.png", "B/scan2.png", "B/scan3.png")
    found = dataset.find(tmp_path, PATTERN)
    assert found.files_without_patient == 3
    assert len(set(found.patients)) == 4


def test_a_pattern_that_is_no_regular_expression_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="unterminated"):
        dataset.find(write(tmp_path, "A/x.png", "B/y.png"), "(person")


def test_copies_are_left_out_and_counted(tmp_path):
    write(tmp_path, "A/1.png=one", "A/2.png=one", "val/A/3.png=one", "B/4.png=two")
    found = dataset.find(tmp_path, PATTERN)
    assert sorted(labelled(found)) == ["1.png", "4.png"]
    assert found.duplicates == 2
    assert len(found.labels) == len(found.patients) == 2


def test_one_image_under_two_classes_is_refused_by_both_names(tmp_path):
    write(tmp_path, "A/left.png=same", "B/right.png=same", "A/other.png")
    with pytest.raises(DatasetError, match=r"A/left\.png and .*B/right\.png"):
        dataset.find(tmp_path, PATTERN)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "0 class folders"),
        (("NORMAL/a.png", "NORMAL/b.png"), r"1 class folders.*NORMAL"),
    ],
    ids=["empty", "one class"],
)
def test_data_without_two_classes_are_refused(tmp_path, names, message):
    with pytest.raises(DatasetError, match=message):
        dataset.find(write(tmp_path, *names), PATTERN)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="nowhere"):
        dataset.find(tmp_path / "nowhere", PATTERN)


UNEVEN = {
    "twenty patients": [[1] * 20, [1] * 20],
    "one patient with most images": [[90] + [1] * 19, [1] * 19 + [40]],
    "three to one": [[2] * 60, [1, 3] * 90],
    "three classes": [[1] * 20, [4] * 35, [1, 2, 9] * 30],
}
SHAPES = pytest.mark.parametrize("shape", UNEVEN.values(), ids=UNEVEN)


@SHAPES
@pytest.mark.parametrize("seed", range(3))
def test_every_patient_is_in_one_part_and_every_class_in_all(shape, seed):
    examples = films.examples(shape)
    parts = dataset.split(examples, seed)
    pairs = set(zip(examples.patients, parts, strict=True))
    assert len(pairs) == len(set(examples.patients))
    classes = set(zip(examples.labels.tolist(), parts, strict=True))
    assert classes == {(c, p) for c in range(len(shape)) for p in dataset.PARTS}


@pytest.mark.parametrize("images", [1, 3], ids=["one image", "three images"])
def test_parts_are_15_2_and_3_twentieths_of_every_class(images):
    examples = films.examples([[images] * 100, [images] * 300])
    parts = dataset.split(examples, seed=1)
    for label, twentieth in enumerate((5 * images, 15 * images)):
        counts = Counter(parts[examples.labels == label].tolist())
        expected = {"training": 15, "validation": 2, "held_out": 3}
        assert counts == {part: share * twentieth for part, share in expected.items()}


def test_a_seed_gives_the_same_split_again_and_another_seed_another():
    examples = films.examples([[1, 2] * 20, [1] * 50])
    first, again, other = (dataset.split(examples, seed).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_class_with_too_few_patients_is_refused_by_name():
    examples = films.examples([[1] * 20, [9] * 19])
    with pytest.raises(DatasetError, match="CLASS1 has 19 patients; 20"):
        dataset.split(examples, seed=1)


def test_the_description_counts_images_and_patients():
    examples = films.examples([[2, 1], [3]])
    parts = np.array(["training", "training", "held_out", "training", "training", ""])
    found = dataset.describe(examples, parts)
    assert list(found) == ["training", "validation", "held_out"]
    assert (found["training"].patients, found["training"].images) == (2, 4)
    assert found["training"].images_by_class == {"CLASS0": 2, "CLASS1": 2}
    assert found["held_out"].images_by_class == {"CLASS0": 1, "CLASS1": 0}
    assert (found["validation"].patients, found["validation"].images) == (0, 0)


def write_films(folder, count=6, size=films.SIZE):
    random = np.random.default_rng(1)
    pictures = [
        films.film(random, index % 2 == 1, size, size) for index in range(count)
    ]
    for index, picture in enumerate(pictures):
        path = folder / films.CLASSES[index % 2] / f"person{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
    return {f"person{index}.png": picture for index, picture in enumerate(pictures)}


def test_pixels_stand_in_the_order_of_the_paths(tmp_path):
    pictures = write_films(tmp_path)
    examples = dataset.find(tmp_path, PATTERN)
    pixels = dataset.read(examples, Preparation(height=films.SIZE, width=films.SIZE))
    assert pixels.dtype == np.uint8
    for path, found in zip(examples.paths, pixels, strict=True):
        np.testing.assert_array_equal(found[..., 0], pictures[path.name])


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_images_are_read_as_the_pipeline_reads_them(tmp_path, resize):
    pictures = write_films(tmp_path, count=2, size=70)
    preparation = Preparation(height=20, width=30, resize=resize)
    examples = dataset.find(tmp_path, PATTERN)
    pixels = dataset.read(examples, preparation)
    for path, found in zip(examples.paths, pixels, strict=True):
        expected = images.prepare(pictures[path.name], preparation)
        np.testing.assert_array_equal(found, expected)


def test_files_that_cannot_be_read_are_counted_and_some_are_named(tmp_path):
    write_films(tmp_path)
    write(tmp_path, *(f"NORMAL/broken{index}.txt" for index in range(7)))
    examples = dataset.find(tmp_path, PATTERN)
    with pytest.raises(DatasetError, match="7 files") as refusal:
        dataset.read(examples, Preparation(height=8, width=8))
    assert "NORMAL/broken0.txt: UNRECOGNISED" in str(refusal.value)
    assert len(str(refusal.value).splitlines()) < 8


def test_a_truncated_image_is_refused_by_name(tmp_path):
    write_films(tmp_path)
    path = tmp_path / "NORMAL" / "person0.png"
    path.write_bytes(path.read_bytes()[:-200])
    examples = dataset.find(tmp_path, PATTERN)
    with pytest.raises(DatasetError, match=r"1 files.*\n.*person0\.png: DECODE_ERROR"):
        dataset.read(examples, Preparation(height=8, width=8))


def numbered(count=10):
    """Images that carry their own number, and labels that follow from it."""
    numbers = np.arange(count)
    pixels = np.broadcast_to(numbers[:, None, None, None], (count, 2, 2, 1))
    return pixels.astype(np.uint8), numbers * 3


def epoch(batches):
    """The numbers of the images of one epoch, in order, and the batch sizes."""
    numbers, sizes = [], []
    for image, label in batches.as_numpy_iterator():
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image[:, 0, 0, 0] * 3, label)
        numbers += image[:, 1, 1, 0].tolist()
        sizes.append(len(label))
    return numbers, sizes


def test_batches_without_a_seed_keep_the_order():
    numbers, sizes = epoch(dataset.batches(*numbered(), 4))
    assert numbers == list(range(10))
    assert sizes == [4, 4, 2]


def test_batches_know_the_shape_of_an_image():
    image, label = dataset.batches(*numbered(), 4).element_spec
    assert tuple(image.shape) == (None, 2, 2, 1)
    assert tuple(label.shape) == (None,)


def test_batches_with_a_seed_are_shuffled_anew_each_epoch():
    batches = dataset.batches(*numbered(50), 8, shuffle_seed=1)
    first, second = epoch(batches)[0], epoch(batches)[0]
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != list(range(50))


def test_a_seed_gives_the_same_order_again_and_another_seed_another():
    first, again, other = (
        epoch(dataset.batches(*numbered(50), 8, shuffle_seed=seed))[0]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
