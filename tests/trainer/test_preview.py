"""A sheet of what a recipe does to images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer import __main__, preview, recipes
from trainer.data import dataset


def run(data: Path, output: Path, *flags: str) -> int:
    arguments = ["--data", str(data), "--output", str(output), *flags]
    return __main__.main(["preview", *arguments, "--set", "image_size=32"])


def test_the_sheet_shows_originals_and_variations(
    chest_xray: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "new" / "preview.png"
    assert run(chest_xray, sheet, "--images", "2", "--variations", "3") == 0
    with Image.open(sheet) as picture:
        width, height = picture.size
        assert np.asarray(picture.convert("L")).std() > 10
    assert height > 1.5 * width
    assert run(chest_xray, sheet) == 2
    assert run(chest_xray, tmp_path / "none.png", "--images", "0") == 2


def test_classes_may_stand_in_the_names(chest_xray: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "preview.png"
    flags = ("--images", "1", "--variations", "1", "--class_pattern")
    assert run(chest_xray, sheet, *flags, "bacteria|virus") == 0
    assert run(chest_xray, tmp_path / "other.png", *flags, "(") == 2


def test_each_variation_is_one_of_its_own_and_the_same_again(chest_xray: Path) -> None:
    examples = dataset.find(chest_xray, dataset.Naming())
    recipe = recipes.load("mobilenet", ["image_size=32"])

    def pictures(seed: int) -> list[np.ndarray]:
        figure = preview.preview(examples, recipe, 2, 2, seed)
        return [axes.images[0].get_array() for axes in figure.axes]

    first, again, other = pictures(1), pictures(1), pictures(2)
    assert len(first) == 6
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert len({picture.tobytes() for picture in first}) == 6
    assert not np.array_equal(first[2], other[2])


def test_classes_stand_in_turn(chest_xray: Path) -> None:
    examples = dataset.find(chest_xray, dataset.Naming())
    recipe = recipes.load("mobilenet", ["image_size=32"])
    figure = preview.preview(examples, recipe, 4, 1, 1)
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["NORMAL", "PNEUMONIA"] * 2


def test_nothing_is_varied_says_so(
    chest_xray: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = dataset.find(chest_xray, dataset.Naming())
    still = [
        f"augmentation.{name}=0"
        for name in ("rotation", "shift", "zoom", "brightness", "contrast")
    ]
    changes = ["image_size=32", "augmentation.horizontal_flip=false", *still]
    figure = preview.preview(examples, recipes.load("mobilenet", changes), 1, 1, 1)
    assert "nothing is varied" in [text.get_text() for text in figure.texts]
    original, variation = (axes.images[0].get_array() for axes in figure.axes)
    np.testing.assert_array_equal(original, variation)
