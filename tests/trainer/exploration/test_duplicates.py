"""Equal files, equal pictures and near ones are told apart, and where they stand."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.trainer import data_sets
from trainer.exploration.duplicates import duplicates


def found_in(folder, files):
    """(kind, file, other, what it crosses) of each pair, and by file its original."""
    seen = data_sets.surveyed(data_sets.write(folder, files))
    found = duplicates(seen)
    pairs = {
        (pair.kind, seen.name(pair.first), seen.name(pair.second), pair.crosses)
        for pair in found.pairs
    }
    names = [seen.name(row) for row in range(len(seen.measured))]
    same = {n: names[s] for n, s in zip(names, found.same_as, strict=True) if s >= 0}
    return pairs, same, found, names


def test_different_pictures_have_no_pairs(tmp_path):
    pairs, same, found, _ = found_in(tmp_path, data_sets.two_classes(6))
    assert not pairs
    assert not same
    assert (found.nearest >= 0).all()


def test_a_copied_file_is_known_by_its_bytes(tmp_path):
    picture = data_sets.picture(1)
    files = {
        "train/A/person1_1.png": picture,
        "train/A/person1_2.png": picture,
        "train/B/person1_3.png": picture,
        "val/A/person1_4.png": picture,
    }
    pairs, same, _, _ = found_in(tmp_path, files)
    first = "train/A/person1_1.png"
    assert pairs == {
        ("file", first, "train/A/person1_2.png", ()),
        ("file", first, "train/B/person1_3.png", ("label", "patient")),
        ("file", first, "val/A/person1_4.png", ("split",)),
    }
    assert set(same) == set(files) - {first}
    assert set(same.values()) == {first}


def test_the_same_pixels_in_another_file_are_an_equal_picture(tmp_path):
    picture = data_sets.picture(1)
    files = {
        "A/person1_1.png": picture,
        "A/person1_2.png": picture.convert("RGB"),
        "B/person2_1.png": picture.convert("RGB"),
    }
    pairs, same, _, _ = found_in(tmp_path, files)
    # The second and the third have the same bytes too, and are paired by them.
    assert pairs == {
        ("picture", "A/person1_1.png", "A/person1_2.png", ()),
        ("file", "A/person1_2.png", "B/person2_1.png", ("label", "patient")),
    }
    assert same["B/person2_1.png"] == "A/person1_1.png"


def test_an_exposure_saved_anew_is_near(tmp_path):
    picture = data_sets.picture(1, rows=300, columns=280)
    files = {
        **data_sets.two_classes(4),
        "NORMAL/person90.png": picture,
        "PNEUMONIA/person91.jpeg": picture.resize((140, 150)),
    }
    pairs, same, found, names = found_in(tmp_path, files)
    one, other = "NORMAL/person90.png", "PNEUMONIA/person91.jpeg"
    assert pairs == {("near", one, other, ("label", "patient"))}
    assert not same
    row = names.index(one)
    assert names[found.nearest[row]] == other
    assert found.distance[row] == found.pairs[0].distance > 0


def test_unreadable_files_are_nobodys_copy(tmp_path):
    flat = Image.fromarray(np.zeros((40, 40), np.uint8))
    files = {"A/1.png": b"", "A/2.png": b"", "B/3.png": flat, "B/4.png": flat}
    pairs, same, found, _ = found_in(
        tmp_path, {**files, "B/5.png": data_sets.picture(1)}
    )
    assert not pairs
    assert not same
    assert found.nearest.tolist() == [-1] * 5
