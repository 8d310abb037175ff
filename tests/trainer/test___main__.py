"""The command line: what it hands on, what it prints, how it ends."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import radiographs
from tests.trainer import films
from trainer import __main__, recipes, train
from trainer.blessing import Terms
from trainer.data.split import Division

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
    assert all(f"--{name}" in shown for name in FLAGS)


@pytest.mark.parametrize("command", __main__.COMMANDS)
def test_help_names_defaults_that_say_something_once(capsys, command):
    with pytest.raises(SystemExit):
        __main__.main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"python -m trainer {command}: " in shown
    assert not re.search(r"default: (None|\[\]|False)|default: [^()]*\(default", shown)
    assert not re.search(r"(?<!\()default:", shown)


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


FLAGS = (
    *("data", "output", "recipe", "set", "weights", "card", "teacher", "require"),
    *("replaces", "also_keras", "patient_pattern", "class_pattern", "subtype_pattern"),
    *("split", "fold", "min_validation", "cache", "seed", "split_seed"),
)


def test_a_change_of_the_recipe_reaches_the_run(given, tiny):
    run = given("--recipe", "tiny", "--set", "head.dropout=0.4")
    expected = dataclasses.replace(tiny, head=recipes.Head(dropout=0.4))
    assert run.recipe == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], Division(seed=1)),
        (["--split_seed", "7", "--seed", "9"], Division(seed=7)),
        (["--split", "given"], Division(seed=1, given=True, folds=1)),
        (["--fold", "2/5"], Division(seed=1, fold=2, folds=5)),
        (["--min_validation", "4"], Division(seed=1, least_validation=4)),
    ],
    ids=["default", "seed", "given", "fold", "validation"],
)
def test_how_patients_are_divided_reaches_the_run(given, flags, expected):
    division = given(*flags).division
    if expected.fold is None:
        expected = dataclasses.replace(expected, folds=division.folds)
    assert division == expected


def test_terms_reach_the_run(given):
    assert given().terms == Terms({"auc": 0.9})
    terms = given("--require", "auc=0.8", "--require", "accuracy=0.7").terms
    assert terms == Terms({"auc": 0.8, "accuracy": 0.7})
    assert given("--replaces", "old").terms.replaces == Path("old")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--fold", "6/5"], "--fold 6/5 is not K/N"),
        (["--fold", "0/5"], "--fold 0/5 is not K/N"),
        (["--fold", "second"], "--fold second is not K/N"),
        (["--fold", "1/1"], "two folds or more"),
        (["--fold", "1/5", "--split", "given"], "cannot go with --split given"),
        (["--require", "auc"], "--require auc is not METRIC=X"),
        (["--require", "auc=high"], "--require auc=high is not METRIC=X"),
        (["--require", "acu=0.9"], "--require acu: it can be auc, average_precision"),
        (["--require", "kappa=0.1"], "--require kappa: it can be auc"),
        (["--set", "imagesize=3"], "field imagesize of a recipe"),
        (["--recipe", "alexnet"], "there is no recipe 'alexnet'"),
        (["--set", "backbone=alexnet"], "backbone is 'alexnet', expected one of"),
        (["--set", "image_size=8"], "image_size is 8; mobilenet takes 32 or more"),
        (["--recipe", "resnet50", "--set", "width=0.5"], "resnet50 has one width"),
        (["--label_pattern", "x"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_that_cannot_be_meant_are_refused_before_data_are_read(
    capsys, tmp_path, flags, said
):
    command = ["--data", tmp_path, "--output", tmp_path / "o", "--weights", "none"]
    if said is None:
        with pytest.raises(SystemExit) as ending:
            __main__.main(["train", *map(str, command), *flags])
        assert ending.value.code == 2
    else:
        assert said in refused(capsys, *command, *flags)


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
    assert (run.seed, run.naming.patient) == (17, "p(x)")


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
    match = re.search(given().naming.patient, name)
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
    usual += ["--min_validation", "5"]
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
    assert "0 classes with files" in said
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
        *("--min_validation", "1"),
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
        ["train", "--data", "d", "--output", "o", "--weights", "none", "--rec", "x"],
        ["train", "--data", "d", "--output", "o", "--weights", "none", "--seed", "x"],
    ],
    ids=["nothing", "no data", "no weights", "half a flag", "no number"],
)
def test_a_command_line_that_cannot_be_meant_is_refused(capsys, flags):
    with pytest.raises(SystemExit) as ending:
        __main__.main(flags)
    assert ending.value.code == 2
    assert "usage" in capsys.readouterr().err
