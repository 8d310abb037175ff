"""A class that differs in size, corner or column is given away, and others are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.stats import mannwhitneyu

from tests.trainer import data_sets
from trainer.exploration import shortcuts


def clues(folder, files):
    seen = data_sets.surveyed(data_sets.write(folder, files))
    return {(c.measurement, c.finding): c for c in shortcuts.shortcuts(seen)}


def marked(picture):
    ImageDraw.Draw(picture).rectangle((0, 0, 10, 10), fill=255)
    return picture


def test_like_classes_have_no_shortcut(tmp_path):
    found = clues(tmp_path, data_sets.two_classes(40))
    assert found
    assert not any(clue.is_suspicious for clue in found.values())
    # All have the same size and format, which therefore say nothing.
    assert not {"width", "format is PNG"} & {name for name, _ in found}


def test_a_mark_in_a_corner_gives_a_class_away(tmp_path):
    files = {
        name: marked(picture) if "PNEUMONIA" in name else picture
        for name, picture in data_sets.two_classes(20).items()
    }
    found = clues(tmp_path, files)
    corner = found["brightness of the top left corner", "PNEUMONIA"]
    assert corner.is_suspicious
    assert corner.higher
    assert corner.source == "picture"
    assert corner.median > corner.median_of_others
    other = found["brightness of the bottom right corner", "PNEUMONIA"]
    assert not other.is_suspicious
    assert found[shortcuts.TOGETHER, "PNEUMONIA"].is_suspicious


def test_size_and_format_give_a_class_away(tmp_path):
    files = {f"NORMAL/{n}.png": data_sets.picture(n, 90, 80) for n in range(12)}
    for number in range(12):
        picture = data_sets.picture(100 + number, 90, 120 + number)
        files[f"PNEUMONIA/{number}.jpeg"] = picture
    found = clues(tmp_path, files)
    assert found["width", "PNEUMONIA"].auc == 1
    assert found["width", "PNEUMONIA"].source == "file"
    assert found["format is PNG", "PNEUMONIA"].auc == 1
    assert not found["format is PNG", "PNEUMONIA"].higher
    assert ("height", "PNEUMONIA") not in found


def test_each_of_three_classes_stands_against_the_others(tmp_path):
    files = {
        f"{name}/{n}.png": data_sets.picture(10 * i + n, 80, 60 + 10 * i)
        for i, name in enumerate("ABC")
        for n in range(4)
    }
    found = clues(tmp_path, files)
    assert [found["width", name].auc for name in "ABC"] == [1, 0.5, 1]


def test_what_a_table_says_may_give_a_class_away(tmp_path):
    rows = ["path,label,age,sex,site"]
    for number in range(40):
        data_sets.write(tmp_path, {f"{number}.png": data_sets.picture(number)})
        label = "A" if number < 20 else "B"
        sex = "" if number % 5 == 0 else "FM"[number % 2]
        rows.append(f"{number}.png,{label},{number},{sex},{'ns'[number >= 25]}")
    (tmp_path / "data.csv").write_text("\n".join(rows), "utf-8")
    seen = data_sets.surveyed(tmp_path / "data.csv")
    found = {clue.measurement: clue for clue in shortcuts.shortcuts(seen)}
    assert found["age"].auc == 1
    assert (found["age"].median, found["age"].median_of_others) == (29.5, 9.5)
    site = found.get("site is s") or found["site is n"]
    assert site.auc == pytest.approx((1 + 15 / 20) / 2)
    sexes = [clue for name, clue in found.items() if name.startswith("sex is")]
    assert [clue.n for clue in sexes] == [32]


def test_the_auc_is_that_of_mann_and_whitney(tmp_path):
    files = data_sets.two_classes(15)
    seen = data_sets.surveyed(data_sets.write(tmp_path, files))
    clue = next(
        c for c in shortcuts.shortcuts(seen) if c.measurement == "mean brightness"
    )
    means = np.array([m.mean for m in seen.measured])
    one, other = means[seen.of("PNEUMONIA")], means[seen.of("NORMAL")]
    auc = mannwhitneyu(one, other).statistic / (len(one) * len(other))
    assert clue.auc == pytest.approx(max(auc, 1 - auc))
    assert clue.low < clue.auc < clue.high


def test_the_standard_error_is_that_of_repeated_samples():
    # Hanley and McNeil's formula is exact for exponential scores.
    random, count, others, auc = np.random.default_rng(0), 30, 45, 0.8
    one = random.exponential(auc / (1 - auc), (3000, count, 1))
    other = random.exponential(1, (3000, 1, others))
    seen = (one > other).mean(axis=(1, 2))
    assert seen.mean() == pytest.approx(auc, abs=0.005)
    expected = pytest.approx(seen.std(), rel=0.05)
    assert shortcuts._standard_error(auc, count, others) == expected


def test_numbers_and_words():
    assert shortcuts.numeric(["1", "2", "x"]) is None
    assert shortcuts.numeric(["0", "1"] * 30) is None
    numbers = shortcuts.numeric([*map(str, range(20)), ""])
    assert np.isnan(numbers[-1])
    assert numbers[:3].tolist() == [0, 1, 2]


def test_an_unreadable_file_says_nothing(tmp_path):
    files = data_sets.two_classes(6)
    files |= {"NORMAL/empty.png": b"", "PNEUMONIA/flat.png": Image.new("L", (9, 9))}
    found = clues(tmp_path, files)
    assert {clue.n for clue in found.values()} == {12}
