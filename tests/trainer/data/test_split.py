"""Patients are divided: stratified, each in one part, and nothing leaks."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from beam_pipeline.manifest import Preparation
from tests.trainer import films
from trainer.data import dataset, pixels, split
from trainer.data.dataset import DatasetError
from trainer.data.split import Division


def divided(examples, seed=1, **division):
    return split.split(examples, Division(seed=seed, **division))


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
    parts = divided(examples, seed=seed)
    pairs = set(zip(examples.patients, parts, strict=True))
    assert len(pairs) == len(set(examples.patients))
    labels = examples.labels.argmax(axis=1)
    classes = set(zip(labels.tolist(), parts, strict=True))
    assert classes == {(c, p) for c in range(len(shape)) for p in split.PARTS}


@pytest.mark.parametrize("images", [1, 3], ids=["one image", "three images"])
def test_parts_are_15_2_and_3_twentieths_of_every_class(images):
    examples = films.examples([[images] * 100, [images] * 300])
    parts = divided(examples)
    for label, twentieth in enumerate((5 * images, 15 * images)):
        counts = Counter(parts[examples.labels[:, label]].tolist())
        expected = {"training": 15, "validation": 2, "held_out": 3}
        assert counts == {part: share * twentieth for part, share in expected.items()}


def test_a_seed_gives_the_same_split_again_and_another_seed_another():
    examples = films.examples([[1, 2] * 20, [1] * 50])
    first, again, other = (divided(examples, seed=seed).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_class_with_too_few_patients_is_refused_by_name():
    examples = films.examples([[1] * 20, [9] * 19])
    with pytest.raises(DatasetError, match="CLASS1 has 19 patients; 20"):
        divided(examples)


def test_the_description_counts_images_and_patients():
    examples = films.examples([[2, 1], [3]])
    parts = np.array(["training", "training", "held_out", "training", "training", ""])
    found = split.describe(examples, parts)
    assert list(found) == ["training", "validation", "held_out"]
    assert (found["training"].patients, found["training"].images) == (2, 4)
    assert found["training"].images_by_class == {"CLASS0": 2, "CLASS1": 2}
    assert found["held_out"].images_by_class == {"CLASS0": 1, "CLASS1": 0}
    assert (found["validation"].patients, found["validation"].images) == (0, 0)


@pytest.mark.parametrize("folds", [2, 5])
def test_all_folds_together_hold_out_every_patient_once(folds):
    examples = films.examples([[1, 2] * 20, [1] * 35, [3] * 30])
    held_out = Counter()
    for fold in range(1, folds + 1):
        parts = divided(examples, fold=fold, folds=folds)
        pairs = set(zip(examples.patients, parts, strict=True))
        assert len(pairs) == len(set(examples.patients))
        for part in split.PARTS:
            present = examples.labels[parts == part].any(axis=0)
            assert present.all()
        held_out.update(set(examples.patients[parts == "held_out"]))
    assert held_out == Counter(set(examples.patients))


def test_a_fold_is_of_the_size_that_its_name_says():
    examples = films.examples([[1] * 100, [1] * 300])
    parts = divided(examples, fold=2, folds=5)
    counts = {part: int((parts == part).sum()) for part in split.PARTS}
    assert counts == {"training": 280, "validation": 40, "held_out": 80}


def several(labels):
    """A multi-label data set, one patient an image."""
    labels = np.array(labels, bool)
    count = len(labels)
    examples = films.examples([[1] * count, []])
    return dataclasses.replace(examples, task="multilabel", labels=labels)


def test_several_labels_are_spread_and_so_are_images_without_any():
    random = np.random.default_rng(0)
    examples = several(random.random((400, 3)) < (0.5, 0.2, 0.1))
    parts = divided(examples)
    for rows in (*examples.labels.T, ~examples.labels.any(axis=1)):
        shares = [rows[parts == part].mean() for part in split.PARTS]
        assert shares == pytest.approx([rows.mean()] * 3, abs=0.1)


def given(parts, patients=None):
    examples = films.examples([[1] * len(parts), []])
    patients = examples.patients if patients is None else np.array(patients)
    return dataclasses.replace(examples, given_parts=np.array(parts), patients=patients)


def test_a_given_split_is_kept():
    parts = ["held_out", "training", "validation", "training"]
    assert divided(given(parts), given=True).tolist() == parts


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["training", "training"], "without validation and held_out"),
        (["training", "validation", "training"], "without held_out"),
        (["training", "validation", "held_out", ""], "without a split of all"),
    ],
)
def test_a_given_split_that_lacks_something_is_refused(parts, said):
    with pytest.raises(DatasetError, match=said):
        divided(given(parts), given=True)


def test_a_given_split_that_shares_a_patient_is_refused():
    examples = given(["training", "validation", "held_out"], ["a", "b", "a"])
    with pytest.raises(DatasetError, match=r"1 patients stand in more than one part"):
        divided(examples, given=True)


def required(examples, parts, *, learned_from=True):
    split.require_kinds(examples, np.array(parts), ("PNEUMONIA",), learned_from)


def test_parts_that_teach_or_tell_nothing_are_refused():
    examples = films.examples([[1] * 3, [1] * 3])
    examples = dataclasses.replace(examples, classes=films.CLASSES)
    well = ["training", "validation", "held_out"]
    required(examples, well * 2)
    with pytest.raises(DatasetError, match="no training image shows PNEUMONIA"):
        required(examples, [*well, "held_out", "validation", "held_out"])
    with pytest.raises(DatasetError, match="the 2 held-out images are of one kind"):
        required(examples, [*well[::2], "held_out", "training", *["validation"] * 2])
    untaught = ["validation", "held_out", "held_out"] * 2
    required(examples, untaught, learned_from=False)


def wilson_low(n, z=1.959963984540054):
    """The lower end of Wilson's interval of n of n, by hand."""
    return n / (n + z**2)


@pytest.mark.parametrize(
    ("normal", "findings", "n", "of"),
    [(40, 7, 7, "sensitivity"), (3, 40, 3, "specificity")],
)
def test_too_few_validation_images_are_refused_with_what_they_would_tell(
    normal, findings, n, of
):
    examples = films.examples([[1] * normal, [1] * findings])
    parts = np.full(len(examples), "validation")
    with pytest.raises(DatasetError) as refusal:
        split.require_validation(examples, parts, ("CLASS1",), 30)
    said = str(refusal.value)
    assert (
        f"a {of} of {n}/{n} on them could be anything from {wilson_low(n):.1%}" in said
    )
    assert f"--min_validation {n}" in said
    split.require_validation(examples, parts, ("CLASS1",), n)


def test_no_validation_image_of_a_kind_is_refused_too():
    examples = films.examples([[1] * 9, [1] * 9])
    parts = np.where(examples.labels[:, 1], "training", "validation")
    with pytest.raises(DatasetError, match="0 images with a finding: no sensitivity"):
        split.require_validation(examples, parts, ("CLASS1",), 0)
    with pytest.raises(DatasetError, match=r"bring more$"):
        split.require_validation(examples, parts, ("CLASS1",), 5)


def test_images_with_any_of_several_findings_count_once():
    examples = films.examples([[1] * 2, [1] * 3, [1] * 3])
    parts = np.full(8, "validation")
    split.require_validation(examples, parts, ("CLASS1", "CLASS2"), 2)
    with pytest.raises(DatasetError, match="have 2 images without a finding"):
        split.require_validation(examples, parts, ("CLASS1", "CLASS2"), 4)


def test_each_of_several_labels_needs_images_for_its_own_threshold():
    examples = several([[True, True], [False, True], [False, False]] * 2)
    parts = np.full(6, "validation")
    split.require_validation(examples, parts, ("CLASS0", "CLASS1"), 2)
    said = r"have 2 images with CLASS0.*; 2 images without CLASS1.*--min_validation 2 "
    # A label that is no finding has a threshold too.
    with pytest.raises(DatasetError, match=said):
        split.require_validation(examples, parts, ("CLASS1",), 3)


def test_a_picture_in_two_parts_is_refused_whatever_its_encoding(tmp_path):
    random = np.random.default_rng(1)
    for name, kind in [("A", "png"), ("B", "png")]:
        (tmp_path / name).mkdir()
        picture = Image.fromarray(films.film(random, name == "B"))
        picture.save(tmp_path / name / f"one.{kind}")
    with Image.open(tmp_path / "A" / "one.png") as picture:
        picture.save(tmp_path / "A" / "two.png", compress_level=0)
    examples = dataset.find(tmp_path, dataset.Naming())
    assert len(examples) == 3
    read = pixels.read(examples, Preparation(height=32, width=32), tmp_path / "cache")
    split.require_no_leak(examples, np.array(["training"] * 3), read)
    with pytest.raises(DatasetError, match=r"1 pictures .*\n.*one\.png and .*two\.png"):
        split.require_no_leak(
            examples, np.array(["training", "held_out", "training"]), read
        )


def test_the_digest_follows_the_split_and_not_the_order_of_files():
    examples = films.examples([[1, 2] * 20, [1] * 50])
    parts = divided(examples)
    found = split.digest(examples, parts)
    order = np.random.default_rng(0).permutation(len(examples))
    other = dataclasses.replace(
        examples, patients=examples.patients[order], labels=examples.labels[order]
    )
    assert split.digest(other, parts[order]) == found
    assert split.digest(examples, divided(examples, seed=2)) != found
    assert found.startswith("sha256:")
    assert len(found) == 7 + 64
