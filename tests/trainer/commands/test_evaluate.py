"""`evaluate`, from its flags to the folder it leaves."""

from __future__ import annotations

import argparse
import csv
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_pipeline import manifest as manifests
from beam_pipeline.manifest import Part
from tests import radiographs
from tests.trainer import predicted
from trainer.commands import evaluate
from trainer.evaluation import predictions, report

pytestmark = pytest.mark.usefixtures("few_resamples")

FILES = {
    "report.html",
    "metrics.json",
    "metrics.csv",
    "curves.json",
    "subgroups.csv",
    "confusion_matrix.csv",
    "predictions.parquet",
    "figures",
}


def run(*flags) -> int:
    parser = argparse.ArgumentParser(exit_on_error=False)
    evaluate.add_arguments(parser)
    return evaluate.run(parser.parse_args([str(flag) for flag in flags]))


def saved(tmp_path, of, name="predictions.parquet"):
    predictions.save(of, tmp_path / name)
    return tmp_path / name


@pytest.fixture
def output(tmp_path):
    return tmp_path / "evaluation"


def figures(output):
    return json.loads((output / "metrics.json").read_text("utf-8"))


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made and not painted, which takes most of the time."""
    monkeypatch.setattr(report, "save_figures", lambda drawn, folder: list(drawn)[:0])


def test_predictions_become_a_folder_with_a_page_of_its_own(tmp_path, output, capsys):
    sex = np.where(np.arange(120) % 6 < 3, "F", "M")
    of = predicted.with_column(predicted.binary(), sex=sex)
    flags = ("--part", "held_out", "--operating_point", "youden")
    assert run("--predictions", saved(tmp_path, of), "--output", output, *flags) == 0
    assert {path.name for path in output.iterdir()} == FILES
    document = figures(output)
    assert document["images"] == 60
    assert document["decision"]["chosen_on"] == "validation"
    assert f"{document['finding']['auc']['value']:.3f}" in capsys.readouterr().out
    again = predictions.load(output / "predictions.parquet")
    assert again.names.tolist() == of.part("held_out").names.tolist()
    page = (output / "report.html").read_text("utf-8")
    drawn = {path.stem for path in (output / "figures").glob("*.png")}
    assert drawn == {path.stem for path in (output / "figures").glob("*.svg")}
    assert drawn >= {"roc", "precision_recall", "thresholds", "reliability", "scores"}
    assert page.count('src="data:image/svg+xml;base64,') == len(drawn)
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "{{" not in page


@pytest.mark.usefixtures("undrawn")
def test_the_tables_say_what_the_document_says(tmp_path, output):
    sex = np.where(np.arange(120) % 6 < 3, "F", "M")
    path = saved(tmp_path, predicted.with_column(predicted.binary(), sex=sex))
    run("--predictions", path, "--output", output, "--part", "held_out")
    document = figures(output)
    with (output / "metrics.csv").open() as stream:
        rows = {(row["group"], row["metric"]): row for row in csv.DictReader(stream)}
    for name, figure in document["finding"].items():
        assert float(rows["finding", name]["value"]) == figure["value"]
    assert rows["at prevalence 0.02", "ppv"]["low"]
    with (output / "subgroups.csv").open() as stream:
        groups = {row["group"] for row in csv.DictReader(stream)}
    assert groups == {"F", "M"}
    with (output / "confusion_matrix.csv").open() as stream:
        counts = [int(row["images"]) for row in csv.DictReader(stream)]
    assert sum(counts) == 60


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("make", [predicted.multiclass, predicted.multilabel])
def test_several_classes_have_a_page_too(tmp_path, output, make):
    of = replace(make(), spread=np.linspace(0, 1, 150))
    path = saved(tmp_path, of)
    run("--predictions", path, "--output", output, "--part", "held_out")
    page = (output / "report.html").read_text("utf-8")
    assert all(name in page for name in of.classes)
    curves = json.loads((output / "curves.json").read_text("utf-8"))
    assert curves["coverage_risk"]


@pytest.mark.usefixtures("undrawn")
def test_images_of_one_kind_have_a_page_that_says_why(tmp_path, output):
    of = predicted.binary()
    path = saved(tmp_path, of.chosen(~of.positives))
    flags = ("--part", "held_out", "--threshold", 0.5)
    assert run("--predictions", path, "--output", output, *flags) == 0
    page = (output / "report.html").read_text("utf-8")
    assert "There is no AUC: there are 0 patients with a finding" in page
    assert figures(output)["finding"]["auc"]["reason"]


@pytest.mark.usefixtures("undrawn")
def test_the_same_seed_gives_the_same_figures(tmp_path):
    path = saved(tmp_path, predicted.binary())
    flags = ("--predictions", path, "--part", "held_out", "--threshold", 0.4)
    run(*flags, "--output", tmp_path / "a")
    run(*flags, "--output", tmp_path / "b")
    for name in ("metrics.json", "metrics.csv", "report.html"):
        a, b = ((tmp_path / folder / name).read_bytes() for folder in "ab")
        assert a == b


REFUSED = {
    "several parts": (
        (),
        "holds the parts held_out, validation: say which with --part",
    ),
    "no such part": (("--part", "training"), "has no images of training"),
    "a control": (
        ("--part", "held_out", "--control", "occlude_center"),
        "need the images: give --data",
    ),
    "no such point": (
        ("--part", "held_out", "--operating_point", "best"),
        "there is no operating point 'best'",
    ),
    "no prevalence": (
        ("--part", "held_out", "--prevalence", "2"),
        "prevalence of 2.0 is not between 0 and 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_evaluated_is_refused(tmp_path, output, name):
    flags, reason = REFUSED[name]
    path = saved(tmp_path, predicted.binary())
    with pytest.raises(ValueError, match=re.escape(reason)):
        run("--predictions", path, "--output", output, *flags)
    assert not output.exists()


def test_a_folder_with_something_in_it_is_refused(tmp_path, output):
    output.mkdir()
    (output / "thesis.txt").touch()
    path = saved(tmp_path, predicted.binary())
    with pytest.raises(FileExistsError, match="is not empty"):
        run("--predictions", path, "--output", output, "--part", "held_out")
    assert [each.name for each in output.iterdir()] == ["thesis.txt"]


@pytest.fixture
def bright(tmp_path):
    """A model of brightness, and labelled images it mostly knows."""
    model = radiographs.save_model(
        tmp_path / "model", classes=("DARK", "BRIGHT"), findings=("BRIGHT",)
    )
    random = np.random.default_rng(0)
    for index in range(60):
        folder = tmp_path / "data" / ("BRIGHT" if index % 2 else "DARK")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = radiographs.chest(random.normal(0.4 + 0.2 * (index % 2), 0.1))
        Image.fromarray(pixels).save(folder / f"person{index}_virus_1.png")
    return model, tmp_path / "data"


@pytest.mark.usefixtures("undrawn")
def test_images_are_scored_by_the_model_and_its_thresholds(bright, output, capsys):
    model, data = bright
    flags = ("--control", "occlude_center", "--subtype_pattern", "(virus)")
    assert run("--model", model, "--data", data, "--output", output, *flags) == 0
    document = figures(output)
    manifest = radiographs.manifest()
    expected = list(manifest.operating_points["default"].thresholds)
    assert document["decision"]["thresholds"] == expected
    assert document["subject"]["model_digest"].startswith("sha256:")
    assert document["controls"]["occlude_center"]["auc"]["value"] > 0
    assert 0.8 < document["finding"]["auc"]["value"] < 1
    assert "AUC, occlude_center" in capsys.readouterr().out
    rows = pq.read_table(output / "predictions.parquet")
    assert rows.num_rows == 60


@pytest.mark.usefixtures("undrawn")
def test_the_data_that_a_model_was_made_with_are_said_to_flatter(
    bright, output, tmp_path, capsys
):
    model, data = bright
    flags = ("--data", data, "--model", model, "--output")
    assert run(*flags, output) == 0
    assert capsys.readouterr().err == ""
    half = Part(patients=30, images=30, images_by_class={"DARK": 15, "BRIGHT": 15})
    known = manifests.load(model)
    training = replace(
        known.training_data, images=60, split={"training": half, "held_out": half}
    )
    manifests.save(replace(known, training_data=training), model)
    assert run(*flags, tmp_path / "again") == 0
    assert "these figures flatter it" in capsys.readouterr().err


def test_a_point_that_the_model_has_not_is_refused(bright, output):
    model, data = bright
    flags = ("--model", model, "--data", data, "--output", output)
    with pytest.raises(ValueError, match="has no operating point 'best'"):
        run(*flags, "--operating_point", "best")


def test_predictions_of_other_classes_are_not_the_models(bright, tmp_path, output):
    model, _ = bright
    path = saved(tmp_path, predicted.binary())
    flags = ("--part", "held_out", "--model", model, "--output", output)
    with pytest.raises(ValueError, match="knows DARK, BRIGHT"):
        run("--predictions", path, *flags)
