"""Stages train what they should, stop in time, keep the best, and go on when killed."""

from __future__ import annotations

import csv
import dataclasses
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, log_softmax
from sklearn.metrics import log_loss, roc_auc_score

from tests.trainer import films
from trainer import architectures, fit
from trainer.progress import Progress
from trainer.recipes import Augmentation, Head, Stage


def stage(epochs, *, unfrozen=0.0, rate=0.01):
    return Stage(unfrozen=unfrozen, epochs=epochs, learning_rate=rate)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A network, what it was before it was fitted, and what that left."""

    network: keras.Model
    before: dict[str, list[np.ndarray]]
    history: list[dict[str, float]]
    logs: Path

    def kept(self, what):
        """Whether each of its arrays is what it was before."""
        before, after = self.before[what], arrays(self.network)[what]
        assert before
        return [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]

    def figures(self, name, stage=None):
        return [each[name] for each in self.history if stage in (None, each["stage"])]


def arrays(network):
    backbone = architectures.backbone_of(network).variables
    return {
        "kernels": [v.numpy() for v in backbone if v.name == "kernel"],
        "statistics": [v.numpy() for v in backbone if "moving" in v.name],
        "head": [v.numpy() for v in network.get_layer("head").weights],
    }


LESSONS = films.lessons(96, 40)


class Interrupted(Progress):
    """Ends the run once so many epochs are done."""

    def __init__(self, epochs):
        super().__init__("tiny")
        self.epochs = epochs

    def epoch_done(self, figures):
        if figures["epoch"] + 1 == self.epochs:
            raise InterruptedError


@pytest.fixture(scope="module")
def fitted(tiny, tiny_weights, tmp_path_factory):
    def build_and_fit(*, lessons=LESSONS, logs=None, progress=None, **changes):
        recipe = dataclasses.replace(tiny, **changes)
        logs = logs or tmp_path_factory.mktemp("logs")
        keras.utils.set_random_seed(1)
        network = architectures.build(recipe, lessons.labels.shape[1], tiny_weights)
        before = arrays(network)
        shown = progress or Progress("tiny")
        history = fit.fit(network, lessons, recipe, seed=1, logs=logs, progress=shown)
        return Fitted(network, before, history, logs)

    return build_and_fit


@pytest.fixture(scope="module")
def head_alone(fitted):
    return fitted(stages=(stage(2), stage(0, unfrozen=1)))


@pytest.fixture(scope="module")
def both_stages(fitted):
    return fitted(stages=(stage(1), stage(5, unfrozen=1)))


@pytest.fixture(scope="module")
def misled(fitted):
    """Whatever it learns, validation films say the contrary: the start is the best."""
    return fitted(
        lessons=films.lessons(96, 40, misled=True),
        stages=(stage(2), stage(12, unfrozen=1)),
        early_stopping_patience=4,
        reduce_lr_patience=2,
    )


def validation_loss(network, lessons=LESSONS):
    """The mean log loss on the validation films, by scikit-learn."""
    rows = lessons.validation
    logits, _, _ = network(lessons.pixels[rows].astype(np.float32), training=False)
    chances = np.exp(log_softmax(np.asarray(logits, np.float64), axis=1))
    return log_loss(lessons.labels[rows].argmax(axis=1), chances)


def test_a_stage_with_nothing_unfrozen_trains_the_head_alone(head_alone):
    assert all(head_alone.kept("kernels"))
    assert all(head_alone.kept("statistics"))
    assert not any(head_alone.kept("head"))


def test_a_stage_with_everything_unfrozen_trains_kernels_too(both_stages):
    assert not any(both_stages.kept("kernels"))
    assert not any(both_stages.kept("head"))


def test_a_share_unfrozen_trains_the_end(fitted):
    done = fitted(stages=(stage(1, unfrozen=0.5),))
    assert done.kept("kernels") == [True, False]


def test_statistics_stay_as_they_were_learned(both_stages):
    assert all(both_stages.kept("statistics"))


def test_the_network_learns_to_tell_unseen_films_apart(both_stages):
    pixels, labels = films.films(3, 60)
    logits, _, _ = both_stages.network(pixels.astype(np.float32), training=False)
    assert (np.asarray(logits).argmax(axis=1) == labels).mean() > 0.95


def test_history_says_each_epoch(both_stages):
    assert both_stages.figures("stage") == [0, 1, 1, 1, 1, 1]
    assert both_stages.figures("epoch") == list(range(6))
    with (both_stages.logs / "history.csv").open() as stream:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
    assert rows == both_stages.history
    assert list((both_stages.logs / "tensorboard").iterdir())


def test_a_stage_without_epochs_is_left_out(head_alone):
    assert head_alone.figures("stage") == [0, 0]


def test_the_network_has_the_best_weights_of_the_last_stage(both_stages):
    best = min(both_stages.figures("val_loss"))
    assert best < min(both_stages.figures("val_loss", 0))
    assert validation_loss(both_stages.network) == pytest.approx(best, rel=1e-3)


def test_the_network_has_the_best_weights_of_the_first_stage(misled):
    best = min(misled.figures("val_loss", 0))
    assert best < min(misled.figures("val_loss", 1))
    lessons = films.lessons(96, 40, misled=True)
    assert validation_loss(misled.network, lessons) == pytest.approx(best, rel=1e-3)


def test_training_stops_after_so_many_epochs_without_a_better_loss(misled):
    losses = misled.figures("val_loss", 1)
    assert len(losses) == int(np.argmin(losses)) + 1 + 4 < 12


def test_the_learning_rate_is_halved_after_so_many_epochs_without_a_better_loss(misled):
    rates = misled.figures("learning_rate", 1)
    best = int(np.argmin(misled.figures("val_loss", 1)))
    assert rates[: best + 3] == pytest.approx([0.01] * (best + 3))
    assert rates[best + 3 :] == pytest.approx([0.005] * 2)


def test_the_auc_may_decide_what_is_best(fitted):
    lessons = films.lessons(48, 40, misled=True)
    done = fitted(
        lessons=lessons,
        monitor="auc",
        stages=(stage(6, unfrozen=1),),
        early_stopping_patience=3,
    )
    found = done.figures("val_auc")
    assert len(found) == int(np.argmax(found)) + 1 + 3 or len(found) == 6
    rows = lessons.validation
    logits, _, _ = done.network(lessons.pixels[rows].astype(np.float32), training=False)
    margins = np.asarray(logits)[:, 1] - np.asarray(logits)[:, 0]
    auc = roc_auc_score(lessons.labels[rows, 1], margins)
    assert auc == pytest.approx(max(found), abs=1e-6)


def test_a_cosine_falls_to_nothing_within_a_stage(fitted):
    done = fitted(
        stages=(stage(2), stage(4, rate=0.02)),
        schedule="cosine",
        early_stopping_patience=9,
    )
    falls = [0.5 * (1 + np.cos(np.pi * share)) for share in (0, 0.25, 0.5, 0.75)]
    assert done.figures("learning_rate", 0) == pytest.approx([0.01, 0.005])
    assert done.figures("learning_rate", 1) == pytest.approx(
        [0.02 * fall for fall in falls]
    )


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_a_constant_rate_stays(fitted, optimizer):
    done = fitted(stages=(stage(2),), schedule="constant", optimizer=optimizer)
    assert done.figures("learning_rate") == pytest.approx([0.01] * 2)
    assert not any(done.kept("head"))


def test_weight_decay_pulls_weights_to_nothing(fitted):
    plain = fitted(stages=(stage(1),))
    decayed = fitted(stages=(stage(1),), weight_decay=1.0)
    sizes = [np.abs(arrays(done.network)["head"][0]).sum() for done in (plain, decayed)]
    assert sizes[1] < sizes[0]


QUIET = Augmentation(
    rotation=0, shift=0, zoom=0, brightness=0, contrast=0, horizontal_flip=False
)


def test_the_weight_average_is_that_of_the_weights_after_each_step(fitted):
    momentum, steps = 0.8, 4
    every = {
        "augmentation": QUIET,
        "head": Head(dropout=0),
        "schedule": "constant",
        "optimizer": "sgd",
    }
    # One epoch of four steps, and the weights after the first one, two, three, four.
    rows = fit.epoch_rows(LESSONS, recipe_of(every), 1, 0)[: 16 * steps]
    lessons = dataclasses.replace(LESSONS, training=np.sort(rows))
    averaged = fitted(
        lessons=lessons, stages=(stage(1),), weight_average=momentum, **every
    )
    order = fit.epoch_rows(lessons, recipe_of(every), 1, 0)
    kernel, bias = (a.astype(np.float64) for a in averaged.before["head"])
    mean_kernel = mean_bias = None
    for batch in np.split(order, steps):
        pixels = lessons.pixels[batch].astype(np.float32)
        embedding = np.asarray(averaged.network(pixels, training=False)[1])
        chances = np.exp(log_softmax(embedding @ kernel + bias, axis=1))
        error = (chances - lessons.targets[batch]) / len(batch)
        weights = fit.balanced_weights(lessons.labels[lessons.training], "binary")
        error *= weights[lessons.labels[batch].argmax(axis=1)][:, np.newaxis]
        kernel = kernel - 0.01 * embedding.T @ error
        bias = bias - 0.01 * error.sum(axis=0)
        # The average begins with the weights after the first step.
        if mean_kernel is None:
            mean_kernel, mean_bias = kernel, bias
        mean_kernel = momentum * mean_kernel + (1 - momentum) * kernel
        mean_bias = momentum * mean_bias + (1 - momentum) * bias
    found_kernel, found_bias = arrays(averaged.network)["head"]
    np.testing.assert_allclose(found_kernel, mean_kernel, atol=1e-5)
    np.testing.assert_allclose(found_bias, mean_bias, atol=1e-5)


def test_training_goes_on_from_the_weights_and_not_from_their_average(fitted):
    plain, averaged = (
        fitted(stages=(stage(3),), weight_average=momentum, optimizer="sgd")
        for momentum in (0.0, 0.9)
    )
    # Those of the networks come first; the optimizers' are not alike.
    count = len(plain.network.get_weights())
    last, same_last = (
        fit._read(done.logs / "checkpoint.npz")[0][:count] for done in (plain, averaged)
    )
    for one, other in zip(last, same_last, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert not np.array_equal(averaged.network.get_weights()[-1], same_last[-1])


def recipe_of(changes):
    from trainer.recipes import Recipe

    return Recipe(backbone="tiny", batch_size=16, stages=(stage(1),), **changes)


def test_the_rarer_class_counts_as_much_as_the_other(fitted):
    one, other = (LESSONS.training[LESSONS.labels[:96, k]] for k in (0, 1))
    lessons = dataclasses.replace(LESSONS, training=np.append(one, other[:4]))
    # Nothing to tell them apart by: what is left is how often each is told.
    blind = dataclasses.replace(lessons, pixels=np.full_like(lessons.pixels, 128))
    shares = {}
    for imbalance in ("none", "class_weights", "balanced_sampling"):
        done = fitted(
            lessons=blind,
            stages=(stage(8, rate=0.1),),
            imbalance=imbalance,
            schedule="constant",
            early_stopping_patience=99,
            augmentation=QUIET,
            head=Head(dropout=0),
        )
        last = fit._read(done.logs / "checkpoint.npz")[0]
        logits = last_logits(done, last)
        shares[imbalance] = np.exp(log_softmax(logits))[0]
    assert shares["none"] > 0.85
    assert shares["class_weights"] == pytest.approx(0.5, abs=0.1)
    assert shares["balanced_sampling"] == pytest.approx(0.5, abs=0.15)


def last_logits(done, arrays_of_checkpoint):
    """What the weights of the last epoch, not the best one, say of a blind image."""
    classifier = keras.Model(done.network.input, done.network.outputs[0])
    for variable, array in zip(
        classifier.variables, arrays_of_checkpoint, strict=False
    ):
        variable.assign(array)
    blind = np.full((1, films.SIZE, films.SIZE, 1), 128, np.float32)
    return np.asarray(classifier(blind, training=False))[0].astype(np.float64)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((10, 10), (1, 1)),
        ((10, 30), (2, 2 / 3)),
        ((5, 10, 45), (4, 2, 4 / 9)),
    ],
    ids=["balanced", "one to three", "three classes"],
)
def test_balanced_weights_are_inverse_to_the_counts(counts, expected):
    labels = films.one_hot(np.repeat(np.arange(len(counts)), counts), len(counts))
    found = fit.balanced_weights(labels, "multiclass")
    assert found.tolist() == pytest.approx(expected)
    assert (labels @ found).mean() == pytest.approx(1)


def test_positives_of_a_label_weigh_as_much_as_its_negatives():
    labels = np.zeros((100, 3), bool)
    labels[:20, 0] = labels[:50, 1] = labels[:1, 2] = True
    found = fit.balanced_weights(labels, "multilabel")
    assert found.tolist() == pytest.approx([4, 1, 10])


def test_balanced_sampling_draws_each_class_as_often():
    lessons = dataclasses.replace(LESSONS, training=np.append(np.arange(0, 90, 2), 1))
    recipe = recipe_of({"imbalance": "balanced_sampling"})
    drawn = np.concatenate(
        [fit.epoch_rows(lessons, recipe, 1, epoch) for epoch in range(20)]
    )
    assert len(drawn) == 20 * 46
    assert set(drawn) <= set(lessons.training)
    assert lessons.labels[drawn].mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.06)


def test_an_epoch_has_every_row_once_in_an_order_of_its_own():
    recipe = recipe_of({})
    first, again, second, other = (
        fit.epoch_rows(LESSONS, recipe, seed, epoch).tolist()
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert sorted(first) == sorted(second) == LESSONS.training.tolist()
    assert first == again
    assert first != second
    assert first != other


def test_smoothed_targets_are_spread_over_all_classes():
    targets = np.array([[1, 0, 0, 0], [0, 0, 1, 0]], np.float32)
    expected = [[0.925, 0.025, 0.025, 0.025], [0.025, 0.025, 0.925, 0.025]]
    np.testing.assert_allclose(fit.smoothed(targets, 0.1, "multiclass"), expected)
    labels = np.array([[1, 0], [1, 1]], np.float32)
    found = fit.smoothed(labels, 0.1, "multilabel")
    np.testing.assert_allclose(found, [[0.95, 0.05], [0.95, 0.95]])
    np.testing.assert_array_equal(fit.smoothed(targets, 0, "multiclass"), targets)


def test_the_loss_of_one_label_is_that_of_numpy():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (6, 3)).astype(np.float32)
    targets = random.dirichlet([1, 1, 1], 6).astype(np.float32)
    weights = np.array([1, 2, 0.5], np.float32)
    found = fit.loss("multiclass", weights)(tf.constant(targets), tf.constant(logits))
    expected = -(weights * targets * log_softmax(logits, axis=1)).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_loss_of_several_labels_is_that_of_numpy():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (6, 3)).astype(np.float32)
    targets = random.random((6, 3)).astype(np.float32)
    weights = np.array([1, 2, 0.5], np.float32)
    found = fit.loss("multilabel", weights)(tf.constant(targets), tf.constant(logits))
    chances = expit(logits.astype(np.float64))
    terms = weights * targets * np.log(chances) + (1 - targets) * np.log(1 - chances)
    np.testing.assert_allclose(found, -terms.mean(axis=1), rtol=1e-4)


def test_validation_figures_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (40, 3)).astype(np.float32)
    labels = films.one_hot(np.arange(40) % 3, 3)
    chances = np.exp(log_softmax(logits.astype(np.float64), axis=1))
    found = fit.validation_figures(logits, labels, "multiclass")
    assert found["val_loss"] == pytest.approx(log_loss(labels, chances))
    auc = roc_auc_score(labels, chances, multi_class="ovr", average="macro")
    assert found["val_auc"] == pytest.approx(auc)
    several = random.random((40, 3)) < 0.3
    found = fit.validation_figures(logits, several, "multilabel")
    each = [
        log_loss(several[:, k], expit(logits[:, k].astype(float))) for k in range(3)
    ]
    assert found["val_loss"] == pytest.approx(np.mean(each))
    assert found["val_auc"] == pytest.approx(roc_auc_score(several, logits))


def test_a_class_that_no_validation_image_has_leaves_the_figures_alone():
    logits = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    labels = films.one_hot(np.arange(10) % 2, 3)
    found = fit.validation_figures(logits, labels, "multiclass")
    assert np.isfinite(list(found.values())).all()


def test_several_labels_are_learned(fitted):
    pixels, labels = films.films(1, 136)
    several = np.stack([labels == 1, labels == 0, labels == 1], axis=1)
    several[::4] = False
    several[::4, 2] = labels[::4] == 1
    lessons = dataclasses.replace(
        LESSONS,
        task="multilabel",
        pixels=pixels,
        labels=several,
        targets=several.astype(np.float32),
    )
    done = fitted(lessons=lessons, stages=(stage(4, unfrozen=1),))
    assert max(done.figures("val_auc")) > 0.75


def test_losses_that_are_no_numbers_end_the_training(fitted):
    with pytest.raises(ValueError, match="learning rate"):
        fitted(
            stages=(stage(3, unfrozen=1, rate=1e30),),
            optimizer="sgd",
            schedule="constant",
        )


RESUMED = {
    "stages": (stage(2), stage(8, unfrozen=1)),
    "early_stopping_patience": 2,
    "reduce_lr_patience": 1,
    "weight_average": 0.9,
    "head": Head(dense=(6,), batch_normalization=True, dropout=0.4),
}


@pytest.fixture(scope="module")
def undisturbed(fitted):
    return fitted(lessons=films.lessons(64, 40, misled=True), **RESUMED)


def same(one, other):
    pairs = zip(one.network.get_weights(), other.network.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    fitted, undisturbed, tmp_path, epochs
):
    lessons = films.lessons(64, 40, misled=True)
    with pytest.raises(InterruptedError):
        fitted(lessons=lessons, logs=tmp_path, progress=Interrupted(epochs), **RESUMED)
    again = fitted(lessons=lessons, logs=tmp_path, **RESUMED)
    assert again.history == undisturbed.history
    assert same(again, undisturbed)
    history = (undisturbed.logs / "history.csv").read_bytes()
    assert (tmp_path / "history.csv").read_bytes() == history


def test_the_undisturbed_run_meets_all_that_must_be_gone_on_with(undisturbed):
    # Otherwise the runs above could not tell whether it was.
    assert 4 < len(undisturbed.history) < 10
    assert len(set(undisturbed.figures("learning_rate", 1))) > 1


def test_a_run_that_is_done_is_not_trained_again(fitted, undisturbed):
    before = (undisturbed.logs / "checkpoint.npz").stat().st_mtime_ns
    lessons = films.lessons(64, 40, misled=True)
    again = fitted(lessons=lessons, logs=undisturbed.logs, **RESUMED)
    assert same(again, undisturbed)
    assert (undisturbed.logs / "checkpoint.npz").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["checkpoint.npz", "best.npz"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "replaced"])
def test_a_damaged_checkpoint_is_refused_by_name(
    fitted, undisturbed, tmp_path, name, damage
):
    for path in ("checkpoint.npz", "best.npz"):
        (tmp_path / path).write_bytes((undisturbed.logs / path).read_bytes())
    data = bytearray((tmp_path / name).read_bytes())
    if damage == "changed":
        data[len(data) // 2] ^= 255
    new = {"cut": data[:-200], "emptied": b"", "replaced": b"no numbers"}
    (tmp_path / name).write_bytes(new.get(damage, data))
    with pytest.raises(OSError, match=f"{name} is damaged; remove its folder"):
        fitted(lessons=films.lessons(64, 40, misled=True), logs=tmp_path, **RESUMED)


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    fit._write(path, [np.arange(3)], {"n": 1})

    def fail(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        fit._write(path, [np.arange(4)], {"n": 2})
    (found,), about = fit._read(path)
    assert (found.tolist(), about) == ([0, 1, 2], {"n": 1})
