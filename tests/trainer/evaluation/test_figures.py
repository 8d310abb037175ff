"""Figures draw what they are given: every curve, name and number."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from beam_pipeline.manifest import Estimate
from tests.trainer import predicted
from trainer.evaluation import curves, evaluate, figures
from trainer.evaluation.intervals import Absent

AUC = Estimate(value=0.91, low=0.85, high=0.96, n=100, method="DeLong")


def texts(figure: Figure) -> str:
    """All that can be read on it, once it was drawn."""
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return "\n".join(artist.get_text() for artist in found)


@pytest.fixture(scope="module")
def predictions():
    return predicted.binary(count=400)


def test_the_roc_has_every_model_with_its_auc(predictions):
    curve = curves.roc(predictions.positives, predictions.scores)
    found = figures.roc(
        {"one": curve, "two": curve},
        {"one": AUC, "two": Absent("why")},
        {"one": (0.1, 0.9)},
    )
    shown = texts(found)
    assert "one: AUC 0.910 (0.850–0.960)" in shown
    assert "two: AUC –" in shown
    assert "operating point" in shown
    (line,) = [each for each in found.axes[0].lines if "one" in str(each.get_label())]
    np.testing.assert_array_equal(line.get_ydata(), curve.sensitivity)


def test_curves_that_are_high_are_enlarged_and_low_ones_are_not():
    positives = np.arange(100) >= 50
    high = curves.roc(positives, np.linspace(0, 1, 100))
    low = curves.roc(positives, np.tile(np.linspace(0, 1, 50), 2))
    for curve, insets in ((high, 1), (low, 0)):
        found = figures.roc({"a": curve}, {"a": AUC}, {})
        assert len(found.axes[0].child_axes) == insets


def test_a_confusion_matrix_has_counts_and_shares():
    found = figures.confusion({"m": np.array([[8, 2], [1, 9]])}, ("NORMAL", "TB"))
    shown = texts(found)
    assert "8\n80.0%" in shown
    assert "NORMAL\n(n = 10)" in shown


def test_thresholds_name_both_kinds(predictions):
    sweep = curves.sweep(predictions.positives, predictions.scores)
    shown = texts(figures.thresholds(sweep, 0.42, "TB", "NORMAL"))
    for label in ("recall of TB", "recall of NORMAL", "precision of TB", "0.420"):
        assert label in shown


def test_a_subgroup_without_figures_says_so(predictions):
    site = np.where(np.arange(400) < 20, "small", "large")
    found = evaluate.evaluate(
        predicted.with_column(predictions, site=site), predicted.HALF
    )
    shown = texts(figures.forest(found.subgroups, found.finding))
    assert "site: small (n = 20)" in shown
    assert shown.count("no figure") == 3


def test_training_curves_go_on_over_the_stages():
    history = [
        {
            "epoch": epoch,
            "stage": stage,
            "loss": 0.5,
            "val_loss": 0.6,
            "val_auc": 0.9,
            "learning_rate": rate,
        }
        for stage, rate in (("head", 1e-3), ("fine_tune", 1e-5))
        for epoch in range(3)
    ]
    found = figures.training_curves(history)
    assert found.axes[0].lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    shown = texts(found)
    assert "head" in shown
    assert "fine tune" in shown
    assert "AUC, validation" in shown


def test_one_epoch_without_an_auc_is_drawn_too():
    row = {"stage": "head", "loss": 1.0, "val_loss": 1.0, "learning_rate": 1e-3}
    assert texts(figures.training_curves([row]))


def test_all_other_figures_can_be_drawn(predictions):
    positives, scores = predictions.positives, predictions.scores
    spread = curves.histogram(scores, {"a": positives, "b": ~positives})
    reliable = curves.reliability(positives, scores, predictions.patients)
    risk = curves.coverage_risk(positives, scores)
    sweep = curves.sweep(positives, scores)
    drawn = {
        "a (n = 200)": figures.histogram(spread, 0.5),
        "Observed share of findings": figures.reliability(reliable, spread),
        "Net benefit": figures.decision_curve({"model": sweep}, 0.5),
        "Coverage and risk": figures.coverage_risk(risk),
        "PPV": figures.predictive_values(
            np.array([0.01, 0.1]), {"PPV": [AUC, AUC], "NPV": [Absent("why")] * 2}, 0.5
        ),
        "AP 0.910": figures.precision_recall(
            {"m": curves.precision_recall(positives, scores)}, {"m": AUC}, {}
        ),
        "Sensitivity": figures.side_by_side(
            {"Sensitivity": {"a": AUC, "b": Absent("")}}
        ),
    }
    for expected, figure in drawn.items():
        assert expected in texts(figure)


def test_numbers_below_zero_have_a_minus_and_no_dash():
    below = Estimate(value=-0.1, low=-0.2, high=0.05, n=9, method="bootstrap")
    assert figures.shown(below) == "−0.100 (−0.200 to 0.050)"
    assert figures.shown(Absent("why")) == "–"


def test_a_name_with_dollars_is_no_formula(tmp_path):
    shares = np.array([[3, 1], [1, 3]])
    drawn = figures.confusion({"$x$": shares}, ("$_$", "b"))
    drawn.savefig(tmp_path / "confusion.png")
    texts = drawn.findobj(Text)
    named = [text for text in texts if "$" in text.get_text()]
    assert named
    assert not any(text.get_parse_math() for text in named)
