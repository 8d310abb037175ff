"""The card says what the manifest and the held-out predictions say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beam_pipeline import manifest as manifests
from beam_pipeline.manifest import Blessing, ManifestError
from tests import radiographs
from tests.trainer.conftest import Trained
from trainer import __main__, model_card, recipes
from trainer.evaluation import evaluate


def sections(text: str) -> dict[str, str]:
    parts = text.split("\n## ")[1:]
    return {part.split("\n", 1)[0]: part for part in parts}


def test_a_trained_model_carries_its_card(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(["card", str(trained.model_dir)]) == 0
    told = capsys.readouterr().out
    file = trained.model_dir / "assets.extra" / "MODEL_CARD.md"
    assert told == file.read_text("utf-8")
    manifest = manifests.load(trained.model_dir)
    assert "assets.extra/MODEL_CARD.md" in manifest.files
    assert told.startswith(f"# Model card: {manifest.name} 7\n")
    found = sections(told)
    assert "made in code" in found["Data and split"]
    assert "everything" in found["Limits, and who must not use it"]
    point = manifest.operating_points["default"]
    [row] = [r for r in found["Operating points"].splitlines() if "| default |" in r]
    assert row.startswith(f"| default | {point.thresholds[0]:.4g} |")
    assert row.endswith(f"| {point.method} | {point.chosen_on} |")
    assert "Calibration slope" in found["Calibration"]
    assert "stage 1: the head alone" in found["How it was made"]
    assert "Grad-CAM" in found["What it is"]


def test_a_card_from_the_manifest_alone(tmp_path: Path) -> None:
    manifest = radiographs.manifest(blessing=None)
    found = sections(model_card.text(manifest))
    assert "Not in the manifest" in found["Subgroups"]
    assert "Nobody said what it must reach" in found["Blessing"]
    assert manifest.intended_use in found["Intended use"]
    with pytest.raises(ManifestError):
        model_card.of(tmp_path)


def test_predictive_values_are_bayes(trained: Trained) -> None:
    manifest = manifests.load(trained.model_dir)
    point = manifest.operating_points["default"]
    default = replace(
        point,
        sensitivity=replace(point.sensitivity, value=0.9, low=0.8, high=0.95),
        specificity=replace(point.specificity, value=0.8, low=0.7, high=0.9),
    )
    text = model_card.text(replace(manifest, operating_points={"default": default}))
    # 0.9 × 0.1 / (0.9 × 0.1 + 0.2 × 0.9), and 0.8 × 0.9 / (0.8 × 0.9 + 0.1 × 0.1)
    assert "| 10 % | 0.333 (" in text
    assert "| 0.986 (" in text


def test_subgroups_are_told_where_patients_are_known(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_RESAMPLES", 20)
    manifest = manifests.load(trained.model_dir)
    predicted = trained.predictions
    sexes = np.where(np.arange(len(predicted)) % 2, "F", "M")
    told = model_card.text(manifest, replace(predicted, columns={"sex": sexes}))
    rows = sections(told)["Subgroups"]
    assert "| sex: F | 60 |" in rows
    assert "| sex: M | 60 |" in rows


def test_a_model_that_is_not_blessed_says_so_first(trained: Trained) -> None:
    manifest = manifests.load(trained.model_dir)
    refused = Blessing(
        blessed=False,
        required={"auc": 0.99},
        reasons=("auc 0.5 of 0.99: not held",),
        compared_with=None,
    )
    told = model_card.text(replace(manifest, blessing=refused))
    assert "**Not blessed**: auc 0.5 of 0.99: not held" in told.split("## ")[0]


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_every_recipe_has_words(name: str) -> None:
    manifest = radiographs.manifest(recipe=recipes.plain(recipes.RECIPES[name]))
    words = sections(model_card.text(manifest))["How it was made"]
    assert f"network {recipes.RECIPES[name].backbone}" in words
    assert "stage 1" in words


def test_what_the_box_was_trained_with_is_told() -> None:
    recipe = recipes.plain(recipes.RECIPES["mobilenet_robust"])
    words = sections(model_card.text(radiographs.manifest(recipe=recipe)))[
        "How it was made"
    ]
    assert "the head alone, one epoch from" in words
    assert "the whole network, at most 6 epochs from" in words
    assert "moving average of the weights, momentum 0.98" in words


def test_another_kind_of_recipe_is_told_field_by_field() -> None:
    manifest = radiographs.manifest(recipe={"imported": "theirs.keras", "scale": "0_1"})
    words = sections(model_card.text(manifest))["How it was made"]
    assert "- imported: theirs.keras" in words
