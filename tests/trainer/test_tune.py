"""A search finds the best trial, and goes on where it was interrupted."""

from __future__ import annotations

import csv
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.trainer import films
from trainer import __main__, members, recipes
from trainer.data import dataset, split
from trainer.data.dataset import Naming
from trainer.data.split import Division
from trainer.progress import Progress

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return films.write_class_folders(tmp_path_factory.mktemp("data") / "films")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(
        'base = "custom_cnn"\nimage_size = 32\nbatch_size = 16\n'
        'head = {pooling = "average", dense = [], dropout = 0.1}\n'
        "stages = [{unfrozen = 1, epochs = 2, learning_rate = 1e-3}]\n",
        "utf-8",
    )
    return path


@pytest.fixture(scope="module")
def command(data, recipe):
    """`tune` without what to search, and where."""
    return [
        "tune",
        *("--data", str(data)),
        *("--recipe", str(recipe)),
        *("--weights", "none"),
        *("--min_validation", "3"),
        *("--seed", "2"),
    ]


# Two trials that can be trained, and one that the network is too deep for.
SEARCH = ["--grid", "stages.0.learning_rate=1e-3,1e-6", "--grid", "image_size=32"]


def rows(folder):
    with (folder / "trials.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def without_seconds(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)]


def history(folder, trial, division="split"):
    path = folder / f"trial-{trial:03d}" / division / "history.csv"
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def searched(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "found"
    assert __main__.main([*command, *SEARCH, "--output", str(folder)]) == 0
    return folder


def test_the_table_has_each_trial_with_the_figures_of_its_best_epoch(searched):
    found = rows(searched)
    assert {row["trial"] for row in found} == {"1", "2"}
    for row in found:
        epochs = history(searched, int(row["trial"]))
        kept = min(epochs, key=lambda figures: float(figures["val_loss"]))
        assert float(row["auc"]) == pytest.approx(float(kept["val_auc"]))
        assert float(row["loss"]) == pytest.approx(float(kept["val_loss"]))
        assert float(row["epochs"]) == len(epochs) == 2
        assert float(row["seconds"]) > 0
        assert (row["auc_sd"], row["trainings"], row["error"]) == ("", "1", "")


def test_the_best_is_first_and_its_recipe_can_be_trained(searched, recipe):
    first, second = rows(searched)
    assert float(first["auc"]) >= float(second["auc"])
    expected = recipes.load(
        str(recipe),
        [f"stages.0.learning_rate={first['stages.0.learning_rate']}"],
    )
    assert recipes.load(str(searched / "best.toml")) == expected
    of_trial = searched / f"trial-{int(first['trial']):03d}" / "recipe.toml"
    assert recipes.load(str(of_trial)) == expected


def test_decoded_images_are_shared_and_weights_are_not_kept(searched):
    assert len(list((searched / "cache").iterdir())) == 1
    assert not list(searched.rglob("*.npz"))


def test_a_finished_search_trains_nothing_again(searched, command, monkeypatch):
    before = (searched / "trials.csv").read_bytes()
    monkeypatch.setattr(members, "fitted", lambda *_, **__: pytest.fail("it trained"))
    assert __main__.main([*command, *SEARCH, "--output", str(searched)]) == 0
    assert (searched / "trials.csv").read_bytes() == before


def test_an_interrupted_search_goes_on_inside_the_training(
    searched, command, tmp_path, monkeypatch
):
    epochs = []

    def epoch_done(_, figures):
        epochs.append(figures["epoch"])
        if len(epochs) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "epoch_done", epoch_done)
    again = [*command, *SEARCH, "--output", str(tmp_path / "found")]
    with pytest.raises(KeyboardInterrupt):
        __main__.main(again)
    assert [row["trial"] for row in rows(tmp_path / "found")] == ["1"]
    assert __main__.main(again) == 0
    assert epochs == [0, 1, 0, 1]
    assert without_seconds(tmp_path / "found") == without_seconds(searched)


@pytest.mark.parametrize(
    ("flags", "differing"),
    [
        (["--grid", "stages.0.learning_rate=1e-3,1e-5"], "trials"),
        ([*SEARCH, "--set", "batch_size=8"], "recipe"),
        ([*SEARCH, "--seed", "3"], "seed"),
        ([*SEARCH, "--split_seed", "9"], "split"),
        ([*SEARCH, "--folds", "2"], "split"),
    ],
)
def test_another_search_does_not_go_where_one_is(
    searched, command, capsys, flags, differing
):
    before = (searched / "trials.csv").read_bytes()
    assert __main__.main([*command, *flags, "--output", str(searched)]) == 2
    assert f"holds another search: {differing} differ" in capsys.readouterr().err
    assert (searched / "trials.csv").read_bytes() == before


def test_a_folder_of_something_else_is_left_alone(command, tmp_path, capsys):
    (tmp_path / "precious").touch()
    assert __main__.main([*command, *SEARCH, "--output", str(tmp_path)]) == 2
    assert "is no search" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.fixture
def told(monkeypatch):
    """No training: a history that depends on the recipe, and what was to be learned."""
    lessons_of = []

    def fitted(recipe, lessons, weights, *, seed, logs, title):
        if recipe.batch_size == 7:
            raise ValueError("there is no memory\nfor seven")
        lessons_of.append(lessons)
        logs.mkdir(parents=True)
        auc = recipe.head.dropout + len(lessons_of) / 1000
        figures = {"val_auc": auc, "val_loss": auc, "stage": 0, "epoch": 0}
        return None, [figures, {**figures, "val_auc": 0.99, "val_loss": 9.0}]

    monkeypatch.setattr(members, "fitted", fitted)
    return lessons_of


def test_folds_are_all_trained_and_averaged(command, data, told, tmp_path):
    flags = ["--grid", "head.dropout=0.5", "--folds", "3", "--output", str(tmp_path)]
    assert __main__.main([*command, *flags]) == 0
    (row,) = rows(tmp_path)
    aucs = [0.501, 0.502, 0.503]
    assert float(row["auc"]) == pytest.approx(statistics.fmean(aucs))
    assert float(row["auc_sd"]) == pytest.approx(np.std(aucs, ddof=1))
    assert row["trainings"] == "3"
    examples = dataset.find(data, Naming())
    for fold, lessons in enumerate(told, start=1):
        parts = split.split(examples, Division(seed=1, fold=fold, folds=3))
        assert set(parts[lessons.training]) == {"training"}
        assert set(parts[lessons.validation]) == {"validation"}
    assert len(told) == 3


def test_held_out_patients_take_no_part(command, data, told, tmp_path):
    flags = ["--grid", "head.dropout=0.5", "--output", str(tmp_path)]
    assert __main__.main([*command, *flags]) == 0
    parts = split.split(dataset.find(data, Naming()), Division(seed=1))
    (lessons,) = told
    learned = np.concatenate([lessons.training, lessons.validation])
    assert sorted(learned) == np.flatnonzero(parts != "held_out").tolist()


@pytest.mark.parametrize(("by", "best"), [("auc", "0.7"), ("loss", "0.1")])
def test_the_figure_that_ranks_can_be_chosen(command, told, tmp_path, by, best):
    flags = ["--grid", "head.dropout=0.4,0.1,0.7", "--by", by]
    assert __main__.main([*command, *flags, "--output", str(tmp_path)]) == 0
    found = [row["head.dropout"] for row in rows(tmp_path)]
    assert found == sorted(found, reverse=by == "auc")
    assert found[0] == best


def test_a_trial_that_cannot_be_trained_is_a_row_at_the_end(
    command, told, tmp_path, capsys
):
    flags = ["--grid", "batch_size=7,8,0,text", "--output", str(tmp_path)]
    assert __main__.main([*command, *flags]) == 0
    found = rows(tmp_path)
    assert [row["batch_size"] for row in found] == ["8", "7", "0", "text"]
    assert found[1]["error"] == "there is no memory"
    assert "expected 1 or more" in found[2]["error"]
    assert "expected a int" in found[3]["error"]
    assert recipes.load(str(tmp_path / "best.toml")).batch_size == 8
    assert "there is no memory" in capsys.readouterr().out


def test_an_image_size_that_the_network_cannot_take_is_a_row(command, tmp_path):
    flags = ["--grid", "image_size=8", "--output", str(tmp_path)]
    assert __main__.main([*command, *flags]) == 1
    (row,) = rows(tmp_path)
    assert row["error"] == "image_size is 8; custom_cnn takes 16 or more"
    assert not (tmp_path / "best.toml").exists()


def test_data_that_no_trial_can_be_trained_on_end_the_search(command, tmp_path, capsys):
    flags = ["--grid", "head.dropout=0.1,0.2", "--min_validation", "50"]
    assert __main__.main([*command, *flags, "--output", str(tmp_path)]) == 2
    assert "the validation patients have" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--grid", "members=1,2"], "members cannot be searched"),
        (["--grid", "distillation=0.1,0.5"], "without a --teacher"),
        (["--grid", "nothing=1,2"], "the field nothing of a recipe"),
        (["--grid", "batch_size=8", "--folds", "1"], "two folds or more"),
        (
            ["--grid", "batch_size=8", "--folds", "3", "--fold", "1/3"],
            "--folds goes neither with --fold",
        ),
        (
            ["--grid", "batch_size=8", "--folds", "3", "--split", "given"],
            "--folds goes neither with --fold",
        ),
    ],
)
def test_a_search_that_is_none_is_refused_before_it_begins(
    command, tmp_path, capsys, flags, message
):
    folder = tmp_path / "search"
    assert __main__.main([*command, *flags, "--output", str(folder)]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


def test_a_random_search_has_as_many_trials_as_were_asked_for(command, told, tmp_path):
    flags = ["--random", "head.dropout=0.2..0.6", "--trials", "4"]
    assert __main__.main([*command, *flags, "--output", str(tmp_path)]) == 0
    found = [float(row["head.dropout"]) for row in rows(tmp_path)]
    assert len(set(found)) == 4
    assert all(0.2 <= dropout <= 0.6 for dropout in found)


@pytest.mark.slow
def test_a_search_that_was_killed_gives_the_same_table(searched, command, tmp_path):
    folder = tmp_path / "found"
    again = [sys.executable, "-m", "trainer", *command, *SEARCH, "--output", folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(again, env=environment, cwd=ROOT)
    checkpoint = folder / "trial-002" / "split" / "checkpoint.npz"
    try:
        while not checkpoint.exists():
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    first = (folder / "trial-001" / "split" / "result.json").stat().st_mtime_ns
    assert not (folder / "trial-002" / "split" / "result.json").exists()
    subprocess.run(again, env=environment, cwd=ROOT, check=True)
    assert (folder / "trial-001" / "split" / "result.json").stat().st_mtime_ns == first
    assert without_seconds(folder) == without_seconds(searched)
    for trial in (1, 2):
        assert history(folder, trial) == history(searched, trial)
