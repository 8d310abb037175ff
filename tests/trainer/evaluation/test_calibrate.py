"""The temperature has the lowest log loss."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation import calibrate


def overconfident(factor, classes=2, count=400, seed=0):
    """Logits `factor` times too large for labels that were drawn from them."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, classes))
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(classes, p=row) for row in chance])
    return (factor * logits).astype(np.float32), labels


def log_loss(logits, labels, temperature):
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(scaled).sum(axis=1))
    return float((normaliser - scaled[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("classes", [2, 4], ids=["two classes", "four classes"])
@pytest.mark.parametrize("factor", [0.3, 1, 5], ids=["timid", "honest", "bold"])
def test_the_temperature_is_the_best_of_a_grid(factor, classes):
    logits, labels = overconfident(factor, classes)
    grid = np.exp(np.linspace(-3, 3, 3001))
    best = grid[np.argmin([log_loss(logits, labels, t) for t in grid])]
    assert calibrate.temperature(logits, labels) == pytest.approx(best, rel=0.003)


def test_the_factor_that_logits_are_too_large_by_is_found():
    logits, labels = overconfident(4, count=4000)
    assert calibrate.temperature(logits, labels) == pytest.approx(4, rel=0.1)


def test_logits_twice_as_large_have_twice_the_temperature():
    logits, labels = overconfident(1)
    once, twice = (calibrate.temperature(k * logits, labels) for k in (1, 2))
    assert twice == pytest.approx(2 * once, rel=1e-3)


@pytest.mark.parametrize(
    ("right", "limit"),
    [(True, np.exp(-3)), (False, np.exp(3))],
    ids=["never wrong", "always wrong"],
)
def test_a_temperature_without_an_optimum_stops_at_the_limit(right, limit):
    labels = np.array([0, 1] * 20)
    logits = np.where(np.eye(2)[labels] == right, 0.1, -0.1).astype(np.float32)
    assert calibrate.temperature(logits, labels) == pytest.approx(limit, rel=1e-3)


def test_huge_logits_give_a_finite_temperature():
    logits, labels = overconfident(1)
    assert np.isfinite(calibrate.temperature(logits * np.float32(1e4), labels))


def test_positions_and_flags_are_the_same_labels():
    logits, labels = overconfident(3, classes=4)
    flags = np.eye(4, dtype=bool)[labels]
    assert calibrate.temperature(logits, flags) == calibrate.temperature(logits, labels)


@pytest.mark.parametrize("factor", [0.3, 4])
def test_many_labels_have_one_temperature_that_is_the_best_of_a_grid(factor):
    random = np.random.default_rng(0)
    logits = random.uniform(-2, 2, (500, 3))
    labels = random.random((500, 3)) < 1 / (1 + np.exp(-logits))

    def mean_log_loss(temperature):
        chance = 1 / (1 + np.exp(-factor * logits / temperature))
        return -np.where(labels, np.log(chance), np.log1p(-chance)).mean()

    grid = np.exp(np.linspace(-1.5, 2, 1001))
    best = grid[np.argmin([mean_log_loss(t) for t in grid])]
    found = calibrate.temperature(factor * logits, labels, task="multilabel")
    assert found == pytest.approx(best, rel=0.005)
    assert found == pytest.approx(factor, rel=0.15)


def test_logits_that_lie_to_one_side_are_moved_back():
    random = np.random.default_rng(5)
    truth = random.normal(0, 3, (4000, 1)) * [[-1, 1]]
    chances = 1 / (1 + np.exp(-(truth[:, 1] - truth[:, 0])))
    labels = (random.random(4000) < chances).astype(int)
    moved = truth * 2.0 + [3.0, -3.0]
    found = calibrate.offsets(moved, labels)
    assert found == pytest.approx([-3.0, 3.0], abs=0.4)
    after = calibrate.temperature(moved + found, labels)
    assert after == pytest.approx(2.0, rel=0.1)


def test_offsets_of_several_labels_move_each_by_itself():
    random = np.random.default_rng(6)
    truth = random.normal(0, 3, (6000, 2))
    labels = random.random((6000, 2)) < 1 / (1 + np.exp(-truth))
    found = calibrate.offsets(truth + np.array([1.5, -0.5]), labels, "multilabel")
    assert found == pytest.approx([-1.5, 0.5], abs=0.2)


def test_offsets_of_a_class_without_an_error_stay_finite():
    labels = np.repeat([0, 1], 10)
    logits = np.where(labels[:, None] == [[0, 1]], 5.0, -5.0)
    assert np.abs(calibrate.offsets(logits, labels)).max() < 10
