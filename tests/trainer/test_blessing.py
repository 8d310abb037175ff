"""A model is blessed for figures that are good enough, whichever way that is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from beam_pipeline import manifest as manifests
from tests import radiographs
from tests.trainer import films, predicted
from trainer import blessing
from trainer.blessing import Terms

FIGURES = dict(radiographs.manifest().metrics)
NO_IMAGES = np.zeros((0, 8, 8, 1), np.uint8)


def blessed(value: float, **required: float) -> manifests.Blessing:
    figure = dataclasses.replace(FIGURES["auc"], value=value, low=0.0, high=1.0)
    figures = dict.fromkeys(("auc", "brier_score"), figure)
    return blessing.bless(Terms(required), figures, predicted.binary(), NO_IMAGES)


@pytest.mark.parametrize(
    ("name", "value", "worst", "held"),
    [
        ("auc", 0.95, 0.9, True),
        ("auc", 0.9, 0.9, True),
        ("auc", 0.85, 0.9, False),
        ("brier_score", 0.05, 0.1, True),
        ("brier_score", 0.1, 0.1, True),
        ("brier_score", 0.2, 0.1, False),
    ],
)
def test_a_figure_is_good_enough_from_its_own_side(
    name: str, value: float, worst: float, held: bool
) -> None:
    found = blessed(value, **{name: worst})
    assert found.blessed is held
    assert found.reasons[0].endswith("held" if held else "missed")


def test_a_figure_that_there_is_not_is_missed() -> None:
    found = blessed(0.95, auc=0.9, accuracy=0.5)
    assert not found.blessed
    assert found.reasons[1].startswith("accuracy cannot be told")


def test_other_figures_are_refused() -> None:
    with pytest.raises(ValueError, match="--require kappa: it can be auc, "):
        Terms({"kappa": 0.5})


def test_a_model_of_another_question_cannot_be_replaced(tmp_path) -> None:
    old = radiographs.save_model(tmp_path / "old")
    known = manifests.load(old)
    examples = dataclasses.replace(
        films.examples([[1] * 3, [1] * 3]), classes=known.classes, task=known.task
    )
    terms = Terms(replaces=old)
    blessing.require(terms, examples, known.findings, known.preparation)
    other = dataclasses.replace(examples, task="multilabel")
    with pytest.raises(ValueError, match="it is binary"):
        blessing.require(terms, other, known.findings, known.preparation)
    padded = dataclasses.replace(known.preparation, resize="pad")
    with pytest.raises(ValueError, match="trainer compare"):
        blessing.require(terms, examples, known.findings, padded)
