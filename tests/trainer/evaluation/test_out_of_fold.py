"""Folds' held-out predictions become one table, without whoever is to judge it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from trainer.evaluation import out_of_fold, predictions
from trainer.evaluation.predictions import Predictions


def fold(names, logits, *, temperature=1.0, part="held_out", classes=("A", "B")):
    count = len(names)
    return Predictions(
        task="binary",
        classes=classes,
        findings=classes[1:],
        names=np.array(list(names)),
        labels=np.eye(2, dtype=bool)[np.arange(count) % 2],
        logits=np.array([[0.0, logit] for logit in logits]),
        temperature=temperature,
        patients=np.array(list(names)),
        parts=np.full(count, part),
        columns={},
    )


@pytest.fixture
def saved(tmp_path):
    def save(*folds):
        paths = [tmp_path / f"{number}.parquet" for number in range(len(folds))]
        for path, each in zip(paths, folds, strict=True):
            predictions.save(each, path)
        return paths

    return save


def test_each_fold_counts_with_its_own_temperature(saved):
    one, two = fold("ab", [1.0, 2.0], temperature=2.0), fold("cd", [3.0, 4.0])
    found = out_of_fold.pooled(saved(one, two), fold("z", [0.0]))
    assert found.names.tolist() == ["a", "b", "c", "d"]
    expected = np.concatenate([one.scores, two.scores])
    np.testing.assert_allclose(found.scores, expected)
    assert not np.allclose(expected[:2], 1 / (1 + np.exp([-1.0, -2.0])))


def test_whoever_judges_does_not_choose(saved):
    paths = saved(fold("ab", [1.0, 2.0]), fold("cd", [3.0, 4.0]))
    found = out_of_fold.pooled(paths, fold("bc", [0.0, 0.0]))
    assert found.names.tolist() == ["a", "d"]


def test_what_a_fold_learned_from_does_not_choose(saved):
    held_out = fold("ab", [1.0, 2.0])
    training = fold("cd", [9.0, 9.0], part="training")
    both = dataclasses.replace(
        held_out,
        **{
            name: np.concatenate([getattr(held_out, name), getattr(training, name)])
            for name in ("names", "labels", "logits", "patients", "parts")
        },
    )
    assert out_of_fold.pooled(saved(both), fold("z", [0.0])).names.tolist() == [
        "a",
        "b",
    ]


def test_an_image_that_two_folds_held_out_is_refused(saved):
    paths = saved(fold("ab", [1.0, 2.0]), fold("bc", [3.0, 4.0]))
    with pytest.raises(ValueError, match="held out the same images"):
        out_of_fold.pooled(paths, fold("z", [0.0]))


def test_predictions_of_other_classes_are_refused(saved):
    with pytest.raises(ValueError, match="differs in classes"):
        out_of_fold.pooled(saved(fold("a", [1.0], classes=("A", "C"))), fold("z", [0]))


def test_nobody_left_is_refused(saved):
    with pytest.raises(ValueError, match="no images are left"):
        out_of_fold.pooled(saved(fold("ab", [1.0, 2.0])), fold("ab", [0.0, 0.0]))
