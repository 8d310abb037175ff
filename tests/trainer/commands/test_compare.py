"""`compare`, from its flags to the folder it leaves."""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from tests.trainer import predicted
from trainer.commands import compare, evaluate
from trainer.evaluation import predictions, report

pytestmark = pytest.mark.usefixtures("few_resamples")


def run(command, *flags) -> int:
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(flag) for flag in flags]))


@pytest.fixture
def files(tmp_path):
    """Two models' predictions; the second's are noisier and in another order."""
    good = predicted.binary(count=200)
    noise = np.random.default_rng(5).normal(0, 2, good.logits.shape)
    noisy = predicted.shuffled(replace(good, logits=good.logits + noise))
    for name, each in (("good", good), ("noisy", noisy)):
        predictions.save(each, tmp_path / f"{name}.parquet")
    return tmp_path / "good.parquet", tmp_path / "noisy.parquet"


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made and not painted, which takes most of the time."""
    monkeypatch.setattr(report, "save_figures", lambda drawn, folder: list(drawn)[:0])


def test_files_become_a_folder(files, tmp_path, capsys):
    output = tmp_path / "comparison"
    assert run(compare, *files, "--part", "held_out", "--output", output) == 0
    assert {path.name for path in output.iterdir()} == {
        "report.html",
        "comparison.json",
        "performance_metrics.csv",
        "differences.csv",
        "figures",
    }
    drawn = {path.name for path in (output / "figures").glob("*.png")}
    assert drawn == {
        "roc_comparison.png",
        "precision_recall_comparison.png",
        "confusion_matrix_comparison.png",
        "metrics_comparison.png",
    }
    document = json.loads((output / "comparison.json").read_text("utf-8"))
    assert document["images"] == 100
    (pair,) = document["pairs"]
    assert pair["auc"]["estimate"]["value"] < 0
    with (output / "performance_metrics.csv").open() as stream:
        rows = {(row["model"], row["metric"]): row for row in csv.DictReader(stream)}
    expected = document["figures"]["noisy"]["auc"]["value"]
    assert float(rows["noisy", "auc"]["value"]) == expected
    assert "paired DeLong p" in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
def test_evaluations_are_compared_at_their_own_thresholds(files, tmp_path):
    folders = []
    for path, threshold in zip(files, (0.3, 0.6), strict=True):
        folder = tmp_path / f"evaluation_{path.stem}"
        flags = ("--part", "held_out", "--threshold", threshold, "--output", folder)
        run(evaluate, "--predictions", path, *flags)
        folders.append(folder)
    output = tmp_path / "comparison"
    run(compare, *folders, "--name", "A", "--name", "B", "--output", output)
    document = json.loads((output / "comparison.json").read_text("utf-8"))
    thresholds = {name: d["thresholds"] for name, d in document["decisions"].items()}
    assert thresholds == {"A": [0.3], "B": [0.6]}
    alone = json.loads((folders[0] / "metrics.json").read_text("utf-8"))
    assert document["figures"]["A"] == alone["finding"]


def test_other_images_are_refused_and_nothing_is_left(files, tmp_path):
    fewer = predictions.load(files[1]).chosen(np.arange(200) > 4)
    predictions.save(fewer, files[1])
    output = tmp_path / "comparison"
    flags = ("--threshold", 0.5, "--threshold", 0.5, "--part", "held_out")
    with pytest.raises(ValueError, match="are of different images"):
        run(compare, *files, *flags, "--output", output)
    assert not output.exists()


def test_a_threshold_too_few_is_refused(files, tmp_path):
    flags = ("--threshold", 0.5, "--output", tmp_path / "comparison")
    with pytest.raises(ValueError, match="2 models and 1 of --threshold"):
        run(compare, *files, *flags)


@pytest.mark.usefixtures("undrawn")
def test_images_of_one_kind_are_compared_as_far_as_they_go(files, tmp_path):
    for path in files:
        of = predictions.load(path)
        predictions.save(of.chosen(of.positives), path)
    output = tmp_path / "comparison"
    flags = ("--part", "held_out", "--threshold", 0.5, "--threshold", 0.5)
    run(compare, *files, *flags, "--output", output)
    (pair,) = json.loads((output / "comparison.json").read_text("utf-8"))["pairs"]
    assert pair["auc"] is None
    assert pair["differences"]["sensitivity"]["value"] is not None
