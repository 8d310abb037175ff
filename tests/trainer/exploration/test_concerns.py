"""What is wrong is said in words, with its numbers, and what is right is not."""

from __future__ import annotations

import math

import pytest
from PIL import Image

from tests.trainer import data_sets
from trainer.exploration import concerns
from trainer.exploration.concerns import Leak
from trainer.exploration.duplicates import duplicates


def said(data):
    """All concerns but those of shortcuts, as (level, text)."""
    seen = data_sets.surveyed(data)
    leaked = concerns.leaks(seen)
    found = concerns.concerns(seen, duplicates(seen), leaked, [])
    return [(concern.level, concern.text) for concern in found]


def one(found, word):
    """The one concern with a word in it."""
    (match,) = [concern for concern in found if word in concern[1]]
    return match


def divided(name, count, start):
    return {
        f"{name}/{label}/person{start + n}_{index}.png": data_sets.picture(
            1000 * index + start + n, 40, 36 + n % 3
        )
        for index, label in enumerate(("NORMAL", "PNEUMONIA"))
        for n in range(count)
    }


def test_a_good_data_set_raises_nothing(tmp_path):
    files = {**divided("train", 50, 0), **divided("val", 80, 100)}
    assert said(data_sets.write(tmp_path, files)) == []


@pytest.mark.parametrize("count", [1, 8, 72])
def test_a_recall_of_all_of_few_has_wilsons_interval(count):
    # The root of his quadratic equation where every one is a hit.
    expected = count / (count + 1.959964**2)
    assert concerns.wilson_low(count) == pytest.approx(expected, rel=1e-6)
    assert not math.isclose(concerns.wilson_low(count), 1)


def test_few_validation_images_are_counted(tmp_path):
    files = {**divided("train", 60, 0), **divided("val", 8, 100)}
    level, text = one(said(data_sets.write(tmp_path, files)), "validation")
    assert level == "check"
    assert "8 NORMAL, 8 PNEUMONIA" in text
    assert "8/8 could be anything from 67.6 % to 100 %" in text


def test_imbalance_and_few_patients_are_told(tmp_path):
    files = data_sets.two_classes(4)
    files |= {f"PNEUMONIA/more{n}.png": data_sets.picture(500 + n) for n in range(8)}
    found = said(data_sets.write(tmp_path, files))
    assert "PNEUMONIA has 3.0 times as many images as NORMAL" in one(found, "times")[1]
    assert "right 75 times in 100" in one(found, "times in")[1]
    assert "NORMAL 4, PNEUMONIA 12" in one(found, "Few patients")[1]
    assert one(found, "without a patient")[1].startswith("8 files")


def test_unreadable_files_come_first_with_their_reasons(tmp_path):
    files = {**data_sets.two_classes(), "NORMAL/a.png": b"", "NORMAL/b.png": b""}
    files["NORMAL/c.png"] = Image.new("L", (60, 60), 3)
    level, text = said(data_sets.write(tmp_path, files))[0]
    assert level == "mend"
    assert text.startswith("3 files cannot be read (EMPTY_FILE 2, CONSTANT_IMAGE 1)")


def test_contradicting_copies_must_be_mended(tmp_path):
    picture, other = data_sets.picture(1), data_sets.picture(2)
    files = {
        "train/NORMAL/person1_1.png": picture,
        "train/PNEUMONIA/person2_1.png": picture,
        "train/NORMAL/person3_1.png": other,
        "val/NORMAL/person4_1.png": other.convert("RGB"),
    }
    found = said(data_sets.write(tmp_path, files))
    assert one(found, "Two labels")[0] == "mend"
    assert one(found, "in two parts, 1 time")[0] == "mend"
    assert not [text for _, text in found if "cop" in text]


def test_harmless_copies_are_only_counted(tmp_path):
    picture = data_sets.picture(900)
    files = {**data_sets.two_classes(), "NORMAL/person0_8.png": picture}
    files |= {"NORMAL/person0_9.png": picture, "NORMAL/p.png": picture.convert("RGB")}
    level, text = one(said(data_sets.write(tmp_path, files)), "copies")
    assert level == "know"
    assert text.startswith("2 copies under the same label")
    assert "1 of them equal byte by byte" in text


def test_a_patient_in_two_parts_is_a_leak(tmp_path):
    files = {
        "train/NORMAL/person1_1.png": data_sets.picture(1),
        "val/NORMAL/person1_2.png": data_sets.picture(2),
        # Other children, whose numbers restart: in a test folder, in another class.
        "test/NORMAL/person1_3.png": data_sets.picture(3),
        "val/PNEUMONIA/person1_4.png": data_sets.picture(4),
        # Nobody knows whose these are.
        "train/NORMAL/scan.png": data_sets.picture(5),
        "val/NORMAL/scan.png": data_sets.picture(6),
    }
    seen = data_sets.surveyed(data_sets.write(tmp_path, files))
    (leak,) = concerns.leaks(seen)
    assert leak.across == "split"
    assert leak.values == ("training", "validation")
    assert {seen.name(row) for row in leak.rows} == {
        "train/NORMAL/person1_1.png",
        "val/NORMAL/person1_2.png",
    }
    found = concerns.concerns(seen, duplicates(seen), [leak], [])
    assert "1 patient with images in two parts" in found[0].text


def test_a_patient_under_two_labels_is_good_to_know(tmp_path):
    data_sets.write(tmp_path, {f"{n}.png": data_sets.picture(n) for n in range(3)})
    table = "path,label,patient\n0.png,A,x\n1.png,B,x\n2.png,B,y\n"
    (tmp_path / "data.csv").write_text(table, "utf-8")
    seen = data_sets.surveyed(tmp_path / "data.csv")
    assert concerns.leaks(seen) == [Leak("x", "label", ("A", "B"), (0, 1))]
    assert one(said(tmp_path / "data.csv"), "different labels")[0] == "know"


def test_one_class_one_size_and_inverted_films(tmp_path):
    dark = Image.new("L", (100, 100), 250)
    dark.paste(data_sets.picture(1, 80, 70).point(lambda value: value // 4), (15, 10))
    files = {f"NORMAL/person{n}.png": data_sets.picture(n, 100, 100) for n in range(3)}
    found = said(data_sets.write(tmp_path, {**files, "NORMAL/person9.png": dark}))
    assert one(found, "one class only")[0] == "mend"
    assert one(found, "100 × 100 pixels")[0] == "know"
    assert one(found, "SUSPECT_INVERTED")[1].startswith("1 image with")
