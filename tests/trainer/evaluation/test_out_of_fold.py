"""Folds' held-out predictions become one table, without whoever is to judge it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from trainer.data.dataset import Examples
from trainer.evaluation import out_of_fold, predictions
from trainer.evaluation.predictions import Predictions
from trainer.run import Data


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
        is_of_training=True,
    )


def judged(names):
    """A run whose held-out images these are, beside one to learn from."""
    names = ["learned", *names]
    examples = Examples(
        root=Path(),
        paths=tuple(map(Path, names)),
        task="binary",
        classes=("A", "B"),
        labels=np.eye(2, dtype=bool)[np.arange(len(names)) % 2],
        patients=np.array(names),
        given_parts=np.full(len(names), ""),
        columns={},
        duplicates=0,
        files_without_patient=0,
    )
    parts = np.array(["training"] + ["held_out"] * (len(names) - 1))
    pixels = np.zeros((len(names), 1, 1, 1), np.uint8)
    return Data(examples, parts, pixels, ("B",))


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
    found = out_of_fold.pooled(saved(one, two), judged("z"))
    assert found.names.tolist() == ["a", "b", "c", "d"]
    expected = np.concatenate([one.scores, two.scores])
    np.testing.assert_allclose(found.scores, expected)
    assert not np.allclose(expected[:2], 1 / (1 + np.exp([-1.0, -2.0])))


def test_whoever_judges_does_not_choose(saved):
    paths = saved(fold("ab", [1.0, 2.0]), fold("cd", [3.0, 4.0]))
    found = out_of_fold.pooled(paths, judged("bc"))
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
    assert out_of_fold.pooled(saved(both), judged("z")).names.tolist() == [
        "a",
        "b",
    ]


def test_an_image_that_two_folds_held_out_is_refused(saved):
    paths = saved(fold("ab", [1.0, 2.0]), fold("bc", [3.0, 4.0]))
    with pytest.raises(ValueError, match="held out the same images"):
        out_of_fold.pooled(paths, judged("z"))


def test_predictions_of_other_classes_are_refused(saved):
    with pytest.raises(ValueError, match="differs in classes"):
        out_of_fold.pooled(saved(fold("a", [1.0], classes=("A", "C"))), judged("z"))


def test_nobody_left_is_refused(saved):
    with pytest.raises(ValueError, match="no images are left"):
        out_of_fold.pooled(saved(fold("ab", [1.0, 2.0])), judged("ab"))


def test_images_of_one_kind_are_refused(saved):
    with pytest.raises(ValueError, match="1 images left all show a finding, or none"):
        out_of_fold.pooled(saved(fold("a", [1.0])), judged("z"))


def test_whoever_judges_does_not_choose_under_another_name(saved):
    other = dataclasses.replace(
        fold("ABC", [1.0, 2.0, 3.0]), patients=np.array(["a", "b", "c"])
    )
    assert out_of_fold.pooled(saved(other), judged("a")).names.tolist() == ["B", "C"]


def test_whoever_judges_does_not_choose_as_another_patient(saved):
    other = dataclasses.replace(
        fold("abc", [1.0, 2.0, 3.0]), patients=np.array(["1", "2", "3"])
    )
    assert out_of_fold.pooled(saved(other), judged("a")).names.tolist() == ["b", "c"]


def test_predictions_that_tell_of_no_training_are_refused(saved):
    unknown = dataclasses.replace(fold("ab", [1.0, 2.0]), is_of_training=False)
    with pytest.raises(ValueError, match="from whom its model learned"):
        out_of_fold.pooled(saved(unknown), judged("z"))
