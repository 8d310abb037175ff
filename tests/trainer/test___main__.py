"""The command line: what it hands on, what it prints, how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from beam_pipeline import manifest as manifests
from tests import radiographs
from tests.trainer import films
from trainer import __main__, recipes, train

ROOT = Path(__file__).parents[2]
HEAVY = ("tensorflow", "keras", "sklearn", "scipy")


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help_answers_without_importing_tensorflow(command):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "trainer", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "train" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not [name for name in imported if name.split(".")[0] in HEAVY]


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["train", "--help"])
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name, _, _ in NUMBERS)


@pytest.fixture
def given(monkeypatch, tmp_path):
    """`given(*flags)` → the Run that a command hands to the training."""
    runs = []

    def record(run):
        runs.append(run)
        return radiographs.manifest()

    monkeypatch.setattr(train, "train", record)

    def call(*flags):
        command = ["train", "--data", "d", "--output", "o"]
        if "--weights" not in flags:
            flags = ("--weights", "none", *flags)
        assert __main__.main([*command, *flags]) == 0
        return runs.pop()

    return call


def test_without_flags_a_run_is_that_of_the_first_recipe(given):
    run = given()
    assert run.recipe == recipes.RECIPES["mobilenet"]
    assert (run.data, run.output) == (Path("d"), Path("o"))
    assert run.weights is None
    assert run.card.version == "1"


NUMBERS = [
    ("width", "0.25", 0.25),
    ("image_size", "32", 32),
    ("batch_size", "8", 8),
    ("dropout", "0.5", 0.5),
    ("head_epochs", "0", 0),
    ("head_learning_rate", "0.02", 0.02),
    ("fine_tune_epochs", "7", 7),
    ("fine_tune_learning_rate", "1e-5", 1e-5),
    ("early_stopping_patience", "9", 9),
    ("reduce_lr_patience", "4", 4),
    ("rotation", "3", 3.0),
    ("shift", "0.5", 0.5),
    ("zoom", "0.4", 0.4),
    ("brightness", "0.3", 0.3),
    ("contrast", "0", 0.0),
]


@pytest.mark.parametrize(
    ("name", "text", "value"), NUMBERS, ids=[name for name, _, _ in NUMBERS]
)
def test_each_number_of_the_recipe_has_a_flag(given, name, text, value):
    recipe, default = given(f"--{name}", text).recipe, recipes.RECIPES["mobilenet"]
    found = {**vars(recipe), **vars(recipe.augmentation)}
    expected = {**vars(default), **vars(default.augmentation), name: value}
    del found["augmentation"], expected["augmentation"]
    assert found == expected


def test_the_chosen_recipe_is_the_one_that_flags_change(given, tiny):
    run = given("--recipe", "tiny", "--dropout", "0.4")
    assert run.recipe.backbone == "tiny"
    assert run.recipe.head_learning_rate == tiny.head_learning_rate
    assert run.recipe.dropout == 0.4


def test_weights_card_seed_and_pattern_reach_the_run(given, tmp_path):
    weights, card = tmp_path / "weights.h5", tmp_path / "card.toml"
    weights.touch()
    card.write_text('version = "9"', "utf-8")
    run = given(
        *("--weights", str(weights)),
        *("--card", str(card)),
        *("--seed", "17"),
        *("--patient_pattern", "p(x)"),
    )
    assert (run.weights, run.card.version) == (weights, "9")
    assert (run.seed, run.patient_pattern) == (17, "p(x)")


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person1_virus_2.png", "person1"),
        ("person12_bacteria_3.png", "person12"),
        ("IM-0115-0001.png", "IM-0115"),
        ("NORMAL2-IM-1427-0001.png", "NORMAL2-IM-1427"),
        ("scan.png", None),
    ],
)
def test_the_default_pattern_finds_the_patients_of_kermany(given, name, patient):
    pattern = train.dataset.re.compile(given().patient_pattern)
    match = pattern.search(name)
    assert (match and match[1]) == patient


def test_what_was_reached_is_printed(given, capsys):
    given()
    shown = capsys.readouterr().out
    assert "auc                0.900 (0.800–1.000)" in shown
    assert "screening          threshold 0.200, sensitivity 0.900" in shown


def refused(capsys, *command):
    """What is said on refusing a command; it must end with 2."""
    assert __main__.main(["train", *map(str, command)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("trainer: ")
    assert "Traceback" not in said
    return said


@pytest.fixture
def usual(chest_xray, tmp_path):
    """A command that would train, without its --weights."""
    return ["--data", chest_xray, "--output", tmp_path / "model", "--recipe", "tiny"]


def test_an_output_that_exists_is_refused(capsys, usual, tmp_path, tiny):
    (tmp_path / "model").mkdir()
    said = refused(capsys, *usual, "--weights", "none")
    assert f"{tmp_path}/model exists" in said


def test_weights_that_are_not_there_are_refused(capsys, usual, tmp_path, tiny):
    said = refused(capsys, *usual, "--weights", tmp_path / "missing.h5")
    assert "missing.h5: there is no such file" in said
    assert not list(tmp_path.iterdir())


def test_weights_that_are_none_are_refused(capsys, usual, tmp_path, tiny):
    weights = tmp_path / "broken.weights.h5"
    weights.write_text("no weights")
    refused(capsys, *usual, "--weights", weights)
    assert not (tmp_path / "model").exists()


def test_data_without_classes_are_refused(capsys, tmp_path):
    (tmp_path / "data").mkdir()
    said = refused(
        capsys,
        *("--data", tmp_path / "data"),
        *("--output", tmp_path / "model"),
        *("--weights", "none"),
    )
    assert "0 class folders" in said
    assert not (tmp_path / "model").exists()


def test_a_file_that_cannot_be_read_is_refused_by_name(capsys, tmp_path, tiny):
    data = films.write_class_folders(tmp_path / "data", patients=20, images=20)
    (data / "NORMAL" / "notes.txt").write_text("call back on Monday")
    said = refused(
        capsys,
        *("--data", data),
        *("--output", tmp_path / "model"),
        *("--recipe", "tiny"),
        *("--weights", "none"),
    )
    assert "NORMAL/notes.txt: UNRECOGNISED" in said


def test_a_card_with_an_unknown_key_is_refused(capsys, usual, tmp_path, tiny):
    card = tmp_path / "card.toml"
    card.write_text('limit = "typo"', "utf-8")
    said = refused(capsys, *usual, "--weights", "none", "--card", card)
    assert "limit" in said


def test_a_pattern_that_is_no_regular_expression_is_refused(capsys, usual, tiny):
    said = refused(capsys, *usual, "--weights", "none", "--patient_pattern", "(person")
    assert "(person" in said


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["train"],
        ["train", "--data", "d", "--output", "o"],
        ["train", "--data", "d", "--output", "o", "--weights", "none", "--imag", "32"],
        ["train", "--data", "d", "--output", "o", "--weights", "none", "--width", "x"],
        ["train", "--data", "d", "--output", "o", "--weights", "none", "--recipe", "x"],
    ],
    ids=["nothing", "no data", "no weights", "half a flag", "no number", "no recipe"],
)
def test_a_command_line_that_cannot_be_meant_is_refused(capsys, flags):
    with pytest.raises(SystemExit) as ending:
        __main__.main(flags)
    assert ending.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_mobilenet_is_trained_by_one_command(
    chest_xray, few_resamples, tmp_path, capsys
):
    output = tmp_path / "mobilenet"
    code = __main__.main(
        [
            "train",
            *("--data", str(chest_xray)),
            *("--output", str(output)),
            *("--weights", "none"),
            *("--width", "0.25"),
            *("--image_size", "32"),
            *("--head_epochs", "1"),
            *("--fine_tune_epochs", "2"),
        ]
    )
    assert code == 0
    manifest = manifests.load(output)
    assert manifests.verify(manifest, output).startswith("sha256:")
    assert (manifest.recipe["backbone"], manifest.recipe["width"]) == (
        "mobilenet",
        0.25,
    )
    assert manifest.training_data.images == 120
    assert f"{output}: mobilenet 1, on held-out patients" in capsys.readouterr().out
