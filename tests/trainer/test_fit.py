"""Both stages train what they should, stop in time and leave the best weights."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.trainer import films
from trainer import architectures, fit


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A network, what it was before it was fitted, and the logs of that."""

    network: keras.Model
    before: dict[str, list[np.ndarray]]
    logs: Path

    def kept(self, what):
        """Whether each of its arrays is what it was before."""
        before, after = self.before[what], arrays(self.network)[what]
        assert before
        return [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]

    def epochs(self, stage, column="val_loss"):
        with (self.logs / f"{stage}.csv").open() as stream:
            return [float(row[column]) for row in csv.DictReader(stream)]


def arrays(network):
    backbone = architectures.backbone_of(network).variables
    return {
        "kernels": [v.numpy() for v in backbone if v.name == "kernel"],
        "statistics": [v.numpy() for v in backbone if "moving" in v.name],
        "head": [v.numpy() for v in network.get_layer("logits").variables],
    }


@pytest.fixture(scope="module")
def fitted(tiny, tiny_weights, tmp_path_factory):
    def build_and_fit(*, class_weights=None, flipped=False, **changes):
        recipe = dataclasses.replace(tiny, **changes)
        logs = tmp_path_factory.mktemp("logs")
        keras.utils.set_random_seed(1)
        network = architectures.build(recipe, 2, tiny_weights)
        before = arrays(network)
        batches = fit.Batches(
            training=films.batches(1, 96),
            validation=films.batches(2, 40, flipped=flipped),
            class_weights=class_weights or {0: 1.0, 1: 1.0},
        )
        fit.fit(network, batches, recipe, logs)
        return Fitted(network, before, logs)

    return build_and_fit


@pytest.fixture(scope="module")
def head_alone(fitted):
    return fitted(head_epochs=2, fine_tune_epochs=0)


@pytest.fixture(scope="module")
def both_stages(fitted):
    return fitted(head_epochs=1, fine_tune_epochs=5, early_stopping_patience=9)


@pytest.fixture(scope="module")
def misled(fitted):
    """Whatever it learns, validation films say the contrary: the start is the best."""
    return fitted(
        head_epochs=2,
        fine_tune_epochs=12,
        early_stopping_patience=4,
        reduce_lr_patience=2,
        flipped=True,
    )


def logits_of(network, seed, count):
    pixels, labels = films.films(seed, count)
    logits, _, _ = network(pixels.astype(np.float32), training=False)
    return np.asarray(logits), labels


def log_loss(network, *, flipped=False):
    """The mean log loss on the validation films, by hand."""
    logits, labels = logits_of(network, 2, 40)
    right = 1 - labels if flipped else labels
    rows = np.arange(40)
    return np.logaddexp(0, logits[rows, 1 - right] - logits[rows, right]).mean()


def test_the_first_stage_trains_the_head_alone(head_alone):
    assert all(head_alone.kept("kernels"))
    assert all(head_alone.kept("statistics"))
    assert not any(head_alone.kept("head"))


def test_the_second_stage_trains_kernels_too(both_stages):
    assert not any(both_stages.kept("kernels"))
    assert not any(both_stages.kept("head"))


def test_the_second_stage_leaves_statistics_as_they_were_learned(both_stages):
    assert all(both_stages.kept("statistics"))


def test_the_network_learns_to_tell_unseen_films_apart(both_stages):
    logits, labels = logits_of(both_stages.network, 3, 60)
    assert (logits.argmax(axis=1) == labels).mean() > 0.95


def test_each_stage_leaves_a_log_of_its_epochs(both_stages):
    assert len(both_stages.epochs("head")) == 1
    assert len(both_stages.epochs("fine_tune")) == 5


def test_a_stage_without_epochs_is_left_out(head_alone):
    assert len(head_alone.epochs("head")) == 2
    assert not (head_alone.logs / "fine_tune.csv").exists()


def test_the_network_has_the_best_weights_of_the_second_stage(both_stages):
    best = min(both_stages.epochs("fine_tune"))
    assert best < min(both_stages.epochs("head"))
    assert log_loss(both_stages.network) == pytest.approx(best, rel=1e-3)


def test_the_network_has_the_best_weights_of_the_first_stage(misled):
    best = min(misled.epochs("head"))
    assert best < min(misled.epochs("fine_tune"))
    assert log_loss(misled.network, flipped=True) == pytest.approx(best, rel=1e-3)


def test_training_stops_after_so_many_epochs_without_a_better_loss(misled):
    losses = misled.epochs("fine_tune")
    assert len(losses) == int(np.argmin(losses)) + 1 + 4 < 12


def test_the_learning_rate_is_halved_after_so_many_epochs_without_a_better_loss(misled):
    rates = misled.epochs("fine_tune", "learning_rate")
    best = int(np.argmin(misled.epochs("fine_tune")))
    assert rates[: best + 3] == pytest.approx([0.01] * (best + 3))
    assert rates[best + 3 :] == pytest.approx([0.005] * 2)


@pytest.mark.parametrize("favoured", [0, 1], ids=["normal", "finding"])
def test_the_class_that_weighs_more_is_told_more_often(fitted, favoured):
    weights = {favoured: 1.0, 1 - favoured: 0.0}
    done = fitted(head_epochs=1, fine_tune_epochs=0, class_weights=weights)
    logits, _ = logits_of(done.network, 2, 40)
    assert (logits.argmax(axis=1) == favoured).mean() > 0.9


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
