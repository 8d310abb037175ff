"""Recipes are complete, fixed, and understood by the rest of the trainer."""

from __future__ import annotations

import dataclasses

import pytest

from trainer import architectures, recipes
from trainer.recipes import Augmentation, Recipe


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_names_a_backbone_that_exists(name):
    assert recipes.RECIPES[name].backbone in architectures.BACKBONES


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_trains_at_least_one_epoch(name):
    recipe = recipes.RECIPES[name]
    assert recipe.head_epochs + recipe.fine_tune_epochs > 0


def test_a_run_cannot_change_a_recipe_for_the_next():
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipes.RECIPES["mobilenet"].width = 0.5


def test_no_field_of_a_recipe_shares_its_name_with_one_of_the_augmentation():
    # Both become flags of one command.
    recipe, augmentation = (
        {field.name for field in dataclasses.fields(kind)}
        for kind in (Recipe, Augmentation)
    )
    assert not recipe & augmentation
