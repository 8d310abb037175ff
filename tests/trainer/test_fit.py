"""Both stages train what they should, stop in time and leave the best weights."""

from __future__ import annotations

import csv
import dataclasses

import keras
import numpy as np
import pytest

from tests.trainer import films
from trainer import architectures, fit


@pytest.fixture
def run(tiny, tiny_weights, tmp_path):
    """Build and fit: `run(**recipe)` → the network before (weights) and after."""

    def build_and_fit(*, class_weights=None, flipped=False, **changes):
        recipe = dataclasses.replace(tiny, **changes)
        keras.utils.set_random_seed(1)
        network = architectures.build(recipe, 2, tiny_weights)
        before = weights_of(network)
        batches = fit.Batches(
            training=films.batches(1, 96),
            validation=films.batches(2, 40, flipped=flipped),
            class_weights=class_weights or {0: 1.0, 1: 1.0},
        )
        fit.fit(network, batches, recipe, tmp_path)
        return network, before

    return build_and_fit


def weights_of(network):
    """Arrays by place: the backbone's kernels and statistics, and the head."""
    backbone = architectures.backbone_of(network)
    return {
        "kernels": [v.numpy() for v in backbone.variables if v.name == "kernel"],
        "statistics": [v.numpy() for v in backbone.variables if "moving" in v.name],
        "head": [v.numpy() for v in network.get_layer("logits").variables],
    }


def same(before, after):
    assert before
    return [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


def loss(network, *, flipped=False):
    """The mean log loss on the validation films, by hand."""
    pixels, labels = films.films(2, 40)
    logits = np.asarray(network(pixels.astype(np.float32), training=False)[0])
    labels = 1 - labels if flipped else labels
    return np.logaddexp(0, logits[range(40), 1 - labels] - logits[range(40), labels])


def epochs(logs, stage):
    with (logs / f"{stage}.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def test_the_first_stage_trains_the_head_alone(run):
    network, before = run(head_epochs=2, fine_tune_epochs=0)
    after = weights_of(network)
    assert all(same(before["kernels"], after["kernels"]))
    assert all(same(before["statistics"], after["statistics"]))
    assert not any(same(before["head"], after["head"]))


def test_the_second_stage_trains_kernels_and_leaves_statistics(run):
    network, before = run(head_epochs=0, fine_tune_epochs=2)
    after = weights_of(network)
    assert not any(same(before["kernels"], after["kernels"]))
    assert all(same(before["statistics"], after["statistics"]))
    assert not any(same(before["head"], after["head"]))


def test_the_network_learns_to_tell_unseen_films_apart(run):
    network, _ = run(head_epochs=1, fine_tune_epochs=5)
    pixels, labels = films.films(seed=3, count=60)
    logits, _ = network(pixels.astype(np.float32), training=False)
    assert (np.argmax(logits, axis=1) == labels).mean() > 0.95


def test_each_stage_leaves_a_log_of_its_epochs(run, tmp_path):
    run(head_epochs=2, fine_tune_epochs=3)
    assert len(epochs(tmp_path, "head")["val_loss"]) == 2
    assert len(epochs(tmp_path, "fine_tune")["val_loss"]) == 3


def test_the_network_is_left_with_the_best_weights_of_the_second_stage(run, tmp_path):
    network, _ = run(head_epochs=1, fine_tune_epochs=4)
    head, fine_tune = (epochs(tmp_path, s)["val_loss"] for s in ("head", "fine_tune"))
    assert min(fine_tune) < min(head)
    assert loss(network).mean() == pytest.approx(min(fine_tune), rel=1e-4)


def test_the_network_is_left_with_the_best_weights_of_the_first_stage(run, tmp_path):
    # Whatever it learns, validation films say the contrary: the start is the best.
    network, _ = run(head_epochs=2, fine_tune_epochs=2, flipped=True)
    head, fine_tune = (epochs(tmp_path, s)["val_loss"] for s in ("head", "fine_tune"))
    assert min(head) < min(fine_tune)
    assert loss(network, flipped=True).mean() == pytest.approx(min(head), rel=1e-4)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_after_so_many_epochs_without_a_better_loss(
    run, tmp_path, patience
):
    run(
        head_epochs=0,
        fine_tune_epochs=12,
        early_stopping_patience=patience,
        flipped=True,
    )
    losses = epochs(tmp_path, "fine_tune")["val_loss"]
    assert len(losses) == int(np.argmin(losses)) + 1 + patience < 12


def test_the_learning_rate_is_halved_without_a_better_loss(run, tmp_path):
    run(
        head_epochs=0,
        fine_tune_epochs=5,
        early_stopping_patience=5,
        reduce_lr_patience=1,
        flipped=True,
    )
    rates = epochs(tmp_path, "fine_tune")["learning_rate"]
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] < 0.01
    ratios = {round(later / rate, 3) for rate, later in zip(rates, rates[1:])}
    assert ratios <= {0.5, 1.0}


@pytest.mark.parametrize("favoured", [0, 1], ids=["normal", "finding"])
def test_the_class_that_weighs_more_is_told_more_often(run, favoured):
    network, _ = run(
        head_epochs=1,
        fine_tune_epochs=0,
        class_weights={favoured: 1.0, 1 - favoured: 0.0},
    )
    pixels, _ = films.films(2, 40)
    logits, _ = network(pixels.astype(np.float32), training=False)
    assert (np.argmax(logits, axis=1) == favoured).mean() > 0.9


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((10, 10), {0: 1, 1: 1}),
        ((10, 30), {0: 2, 1: 2 / 3}),
        ((5, 10, 45), {0: 4, 1: 2, 2: 4 / 9}),
    ],
    ids=["balanced", "one to three", "three classes"],
)
def test_balanced_weights_are_inverse_to_the_counts(counts, expected):
    labels = np.repeat(np.arange(len(counts)), counts)
    found = fit.balanced_weights(labels)
    assert found == pytest.approx(expected)
    assert np.mean([found[label] for label in labels.tolist()]) == pytest.approx(1)
