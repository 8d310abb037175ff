"""Recipes: what they say, and how a file or `--set` changes them."""

from __future__ import annotations

import dataclasses
import json
import tomllib

import pytest

from beam_pipeline.document import Mismatch
from trainer import __main__, architectures, recipes
from trainer.recipes import RECIPES, Augmentation, Head, Recipe, Stage

NAMES = pytest.mark.parametrize("name", RECIPES)


@NAMES
def test_every_recipe_names_a_backbone_that_takes_its_images(name):
    backbone = architectures.BACKBONES[RECIPES[name].backbone]
    assert RECIPES[name].image_size >= backbone.smallest


@NAMES
def test_every_recipe_is_the_same_through_json_and_toml(name, tmp_path):
    document = recipes.plain(RECIPES[name])
    assert recipes.changed(RECIPES[name], {}) == RECIPES[name]
    path = tmp_path / "recipe.toml"
    # JSON's tables within a list are TOML's but for the sign.
    lines = (
        f"{key} = {json.dumps(value)}".replace('": ', '" = ')
        for key, value in document.items()
    )
    path.write_text("\n".join(lines), "utf-8")
    assert recipes.load(str(path)) == RECIPES[name] == recipes.load(name)


def test_a_run_cannot_change_a_recipe_for_the_next():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["mobilenet"].width = 0.5
    recipes.load("mobilenet", ["stages.0.epochs=9", "head.dense=[4]"])
    assert RECIPES["mobilenet"].stages[0].epochs == 1
    assert RECIPES["mobilenet"].head.dense == ()


def test_vgg16_has_the_figures_of_its_project():
    recipe = RECIPES["vgg16"]
    assert recipe.image_size == 224
    assert recipe.head == Head(pooling="flatten", dense=(512,), dropout=0.5)
    assert recipe.stages == (Stage(unfrozen=0, epochs=30, learning_rate=1e-4),)
    assert (recipe.optimizer, recipe.batch_size) == ("adam", 32)


def test_the_custom_cnn_has_the_figures_of_its_project():
    recipe = RECIPES["custom_cnn"]
    assert recipe.stages == (Stage(unfrozen=1, epochs=30, learning_rate=1e-4),)
    network = architectures.build(recipe, 2, None)
    backbone = architectures.backbone_of(network)
    channels = [
        layer.filters for layer in backbone.layers if layer.name.endswith("conv")
    ]
    assert channels == [32, 64, 128, 256]
    assert network.count_params() == pytest.approx(8.9e6, rel=0.01)


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16", "resnet50", "efficientnet_b0"])
def test_patience_is_10_epochs_and_the_rate_is_halved_after_5(name):
    recipe = RECIPES[name]
    assert (recipe.early_stopping_patience, recipe.reduce_lr_patience) == (10, 5)
    assert recipe.schedule == "plateau"
    assert recipe.imbalance == "class_weights"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("efficientnet_b0", 224),
        ("efficientnet_b1", 240),
        ("efficientnet_b2", 260),
        ("efficientnet_b3", 300),
        ("inception_v3", 299),
        ("resnet50", 224),
        ("densenet121", 224),
        ("custom_cnn", 128),
    ],
)
def test_each_backbone_sees_images_of_its_own_size(name, size):
    assert RECIPES[name].image_size == size


def test_later_stages_unfreeze_more():
    for recipe in RECIPES.values():
        shares = [stage.unfrozen for stage in recipe.stages]
        assert shares == sorted(shares)


def test_densenet_is_varied_by_mirroring_alone_as_in_its_paper():
    assert RECIPES["densenet121"].augmentation == Augmentation(
        rotation=0, shift=0, zoom=0, brightness=0, contrast=0, horizontal_flip=True
    )
    assert RECIPES["densenet121"].batch_size == 16


def value_at(recipe, field):
    found = recipes.plain(recipe)
    for name in field.split("."):
        found = found[int(name) if isinstance(found, list) else name]
    return found


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("image_size=64", 64),
        ("width=1", 1.0),
        ("width = 0.25", 0.25),
        ("backbone=vgg16", "vgg16"),
        ("backbone='vgg16'", "vgg16"),
        ("mixed_precision=false", False),
        ("schedule=cosine", "cosine"),
        ("augmentation.rotation=3", 3.0),
        ("augmentation.vertical_flip=true", True),
        ("head.pooling=flatten", "flatten"),
        ("head.dense=[64, 32]", [64, 32]),
        ("head.dense=[]", []),
        ("stages.1.learning_rate=1e-6", 1e-6),
        ("stages.0.epochs=0", 0),
        (
            "stages=[{unfrozen=1.0, epochs=2, learning_rate=0.1}]",
            [{"unfrozen": 1.0, "epochs": 2, "learning_rate": 0.1}],
        ),
    ],
)
def test_one_change_changes_one_field(change, value):
    field = change.partition("=")[0].strip()
    changed = recipes.load("mobilenet", [change])
    assert value_at(changed, field) == value
    before = value_at(RECIPES["mobilenet"], field)
    assert recipes.changed(changed, {field: before}) == RECIPES["mobilenet"]


def test_later_changes_win():
    assert recipes.load("vgg16", ["image_size=64", "image_size=96"]).image_size == 96


def test_a_file_gives_what_differs_from_its_base(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "efficientnet_b0"\nbatch_size = 8\n[augmentation]\nrotation = 3\n',
        "utf-8",
    )
    found, base = recipes.load(str(path)), RECIPES["efficientnet_b0"]
    augmentation = dataclasses.replace(base.augmentation, rotation=3)
    expected = dataclasses.replace(base, batch_size=8, augmentation=augmentation)
    assert found == expected
    assert recipes.load(str(path), ["batch_size=4"]).batch_size == 4


def test_a_file_without_base_has_the_defaults(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'backbone = "vgg16"\nstages = [{unfrozen = 0, epochs = 1, learning_rate = 1}]',
        "utf-8",
    )
    stages = (Stage(unfrozen=0, epochs=1, learning_rate=1),)
    assert recipes.load(str(path)) == Recipe(backbone="vgg16", stages=stages)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("imagesize=3", r"field imagesize of a recipe is 'imagesize'.*image_size"),
        ("augmentation.tilt=3", r"augmentation\.tilt.*'tilt'.*rotation, shift"),
        ("image_size.x=3", r"image_size\.x.*no further field"),
        ("stages.7.epochs=3", r"stages\.7\.epochs is '7'.*below 2"),
        ("stages.x.epochs=3", r"stages\.x\.epochs is 'x'.*below 2"),
        ("image_size", r"'image_size', expected FIELD=VALUE"),
        ("image_size=big", r"image_size is 'big', expected a int"),
        ("image_size=2.5", r"image_size is 2\.5, expected a int"),
        ("members=0", r"members is 0, expected 1 or more"),
        ("schedule=linear", r"schedule is 'linear', expected 'plateau' or 'cosine'"),
        ("stages=[]", r"stages is \(\), expected one epoch"),
        ("stages.1.unfrozen=2", r"unfrozen is 2\.0, expected 0 to 1"),
        ("stages.1.epochs=-1", r"epochs is -1, expected 0 or more"),
        ("stages.1.learning_rate=0", r"learning_rate is 0\.0, expected more than 0"),
        ("stages.1.learning_rate=nan", r"learning_rate is nan"),
        ("augmentation.zoom=1", r"zoom is 1\.0, expected 0 to 0\.9"),
        ("augmentation.rotation=-3", r"rotation is -3\.0, expected 0 to 180"),
        ("augmentation.noise=inf", r"noise is inf, expected 0 or more"),
        ("augmentation.gamma=0.5", r"gamma is 0\.5, expected 0, or 1 and more"),
        ("augmentation.jpeg_quality=101", r"jpeg_quality is 101, expected 0 to 100"),
        ("augmentation.blur=90", r"blur is 90\.0, expected 0 to 89\.2"),
        ("head.dropout=1", r"dropout is 1\.0, expected 0 to below 1"),
        ("head.dense=[0]", r"dense is \(0,\), expected 1 or more"),
        ("batch_size=0", r"batch_size is 0, expected 1 or more"),
        ("reduce_lr_patience=0", r"reduce_lr_patience is 0, expected 1 or more"),
        ("label_smoothing=2", r"label_smoothing is 2\.0, expected 0 to below 1"),
        ("label_smoothing=1", r"label_smoothing is 1\.0, expected 0 to below 1"),
        ("weight_average=1", r"weight_average is 1\.0, expected 0 to below 1"),
        ("distillation=1.5", r"distillation is 1\.5, expected 0 to 1"),
        ("weight_average=-1", r"weight_average is -1\.0, expected 0 to below 1"),
        ("width=0", r"width is 0\.0, expected more than 0"),
    ],
)
def test_a_change_that_cannot_be_is_refused_with_what_there_is(change, said):
    with pytest.raises(Mismatch, match=said):
        recipes.load("mobilenet", [change])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base = ", r"cannot be read as TOML"),
        ('base = "alexnet"', r"base is 'alexnet', expected one of mobilenet, "),
        ('base = ["vgg16"]', r"base is \['vgg16'\], expected one of mobilenet, "),
        ('base = "vgg16"\nsize = 3', r"'size'.*no key but backbone"),
        ('backbone = "vgg16"', r"missing.*'stages'"),
    ],
    ids=["no TOML", "base", "no text", "unknown", "missing"],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(Mismatch, match=said):
        recipes.load(str(path))


def test_a_recipe_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(Mismatch, match=r"no recipe 'resnet'.*vgg16, resnet50, "):
        recipes.load("resnet")


def test_the_command_lists_every_recipe(capsys):
    assert __main__.main(["recipes"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == list(RECIPES)


@NAMES
def test_the_command_shows_a_recipe_as_a_file_that_gives_it_again(
    name, capsys, tmp_path
):
    assert __main__.main(["recipes", name, "--set", "batch_size=7"]) == 0
    path = tmp_path / "shown.toml"
    path.write_text(capsys.readouterr().out, "utf-8")
    assert tomllib.loads(path.read_text("utf-8"))
    expected = dataclasses.replace(RECIPES[name], batch_size=7)
    assert recipes.load(str(path)) == expected
