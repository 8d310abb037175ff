"""Grids hold every combination, samples stay within their ranges."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from trainer import recipes, search_space

RECIPE = recipes.load("custom_cnn")


def test_a_grid_is_every_combination_once():
    found = search_space.grid(
        RECIPE,
        ["batch_size=16,32", "head.dropout=0.2,0.5", "optimizer=adam,sgd,rmsprop"],
    )
    combinations = {tuple(changes.items()) for changes in found}
    assert len(found) == len(combinations) == 12
    assert {changes["optimizer"] for changes in found} == {"adam", "sgd", "rmsprop"}
    assert {type(changes["batch_size"]) for changes in found} == {int}


def test_values_may_be_lists_and_words():
    found = search_space.grid(RECIPE, ["head.dense=[512, 256], [], [64]"])
    assert [changes["head.dense"] for changes in found] == [[512, 256], [], [64]]
    found = search_space.grid(RECIPE, ["backbone=vgg16, resnet50"])
    assert [changes["backbone"] for changes in found] == ["vgg16", "resnet50"]


def test_what_is_drawn_lies_in_its_range_and_spreads_over_it():
    found = search_space.sample(
        RECIPE,
        [
            "stages.0.learning_rate=log:1e-5..1e-3",
            "head.dropout=0.1..0.6",
            "batch_size=8..11",
            "optimizer=adam,sgd",
        ],
        2000,
        seed=1,
    )
    rates = np.log10([changes["stages.0.learning_rate"] for changes in found])
    assert -5 <= rates.min() < rates.max() <= -3
    assert np.mean(rates) == pytest.approx(-4, abs=0.05)  # of the logarithm
    dropouts = np.array([changes["head.dropout"] for changes in found])
    assert 0.1 <= dropouts.min() < dropouts.max() <= 0.6
    assert np.mean(dropouts) == pytest.approx(0.35, abs=0.02)
    sizes = Counter(changes["batch_size"] for changes in found)
    assert set(sizes) == {8, 9, 10, 11}
    assert min(sizes.values()) > 400
    assert {type(size) for size in sizes} == {int}
    assert Counter(changes["optimizer"] for changes in found)["sgd"] > 800


def test_an_integer_may_be_drawn_by_its_logarithm():
    found = search_space.sample(RECIPE, ["batch_size=log:4..256"], 500, seed=1)
    sizes = [changes["batch_size"] for changes in found]
    assert {type(size) for size in sizes} == {int}
    assert 4 <= min(sizes) < max(sizes) <= 256
    assert math.log2(np.median(sizes)) == pytest.approx(5, abs=0.5)


def test_the_seed_decides_what_is_drawn():
    def drawn(seed):
        return search_space.sample(RECIPE, ["head.dropout=0..1"], 3, seed)

    assert drawn(1) == drawn(1) != drawn(2)


def test_what_is_drawn_fits_the_recipe():
    for changes in search_space.sample(
        RECIPE, ["batch_size=8..64", "augmentation.rotation=0..20"], 5, seed=1
    ):
        assert recipes.changed(RECIPE, changes).batch_size == changes["batch_size"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["learning_rate=1e-3"], "the field learning_rate of a recipe"),
        (["stages.1.epochs=1,2"], "a number below 1"),
        (["batch_size"], "batch_size is not FIELD=VALUES"),
        (["batch_size="], "is not FIELD=VALUES"),
        (["batch_size=16", "batch_size=32"], "batch_size is given twice"),
        (["optimizer=adam,,sgd"], "a value is empty"),
    ],
)
def test_a_grid_that_is_none_is_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        search_space.grid(RECIPE, texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head.dropout=0.5..0.1", "LOW < HIGH is needed"),
        ("head.dropout=log:0..1", "0 < LOW < HIGH is needed"),
        ("head.dropout=0.1..x", "is not LOW..HIGH"),
        ("batch_size=8.5..16", "batch_size holds integers"),
        ("optimizer=1..2", "a range is for a number"),
        ("test_time_augmentation=0..1", "a range is for a number"),
        ("optimizer=adam,sgd", "there are 2 combinations; --grid"),
    ],
)
def test_a_range_that_is_none_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        search_space.sample(RECIPE, [text], 5, seed=1)


def test_no_trials_are_refused():
    with pytest.raises(ValueError, match="one or more"):
        search_space.sample(RECIPE, ["head.dropout=0..1"], 0, seed=1)
