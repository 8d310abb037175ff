"""A teacher knows the labels of nobody who is to choose or to judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.manifest import Preparation
from trainer import teacher
from trainer.data.dataset import DatasetError, Examples
from trainer.evaluation import predictions
from trainer.evaluation.predictions import Predictions
from trainer.run import Data

NAMES = ("a", "b", "c", "d")
PARTS = ("training", "training", "validation", "held_out")
LABELS = np.eye(2, dtype=bool)[[0, 1, 0, 1]]
LOGITS = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0]])


def data() -> Data:
    examples = Examples(
        task="binary",
        classes=("A", "B"),
        root=Path(),
        paths=tuple(map(Path, NAMES)),
        labels=LABELS,
        patients=np.array(NAMES),
        duplicates=0,
        files_without_patient=0,
        given_parts=np.full(len(NAMES), ""),
    )
    pixels = np.zeros((len(NAMES), 1, 1, 1), np.uint8)
    return Data(examples, np.array(PARTS), pixels, ("B",))


def taught(folder: Path, parts: tuple[str, ...], *, is_of_training: bool):
    said = Predictions(
        task="binary",
        classes=("A", "B"),
        findings=("B",),
        names=np.array(NAMES),
        labels=LABELS,
        logits=LOGITS,
        temperature=1.0,
        patients=np.array(NAMES),
        parts=np.array(parts),
        columns={},
        is_of_training=is_of_training,
    )
    predictions.save(said, folder / "said.parquet")
    size = Preparation(height=1, width=1)
    return teacher.targets(data(), size, folder / "said.parquet", 0.25)


def test_a_label_is_in_part_what_the_teacher_says(tmp_path):
    found = taught(tmp_path, PARTS, is_of_training=True)
    chance = 1 / (1 + np.exp(-LOGITS[:, 1]))
    expected = 0.75 * LABELS[:, 1] + 0.25 * chance
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "parts",
    [
        ("training", "training", "training", "held_out"),
        ("training", "training", "validation", "training"),
        ("training", "training", "held_out", "validation"),
    ],
    ids=["learned who chooses", "learned who judges", "was chosen on who judges"],
)
def test_a_teacher_of_another_division_is_refused(tmp_path, parts):
    with pytest.raises(DatasetError, match="1 images of this run's"):
        taught(tmp_path, parts, is_of_training=True)


def test_a_teacher_may_know_less(tmp_path):
    taught(tmp_path, ("held_out", "validation", "held_out", ""), is_of_training=True)


def test_folders_that_images_came_in_say_nothing_of_a_teacher(tmp_path):
    taught(tmp_path, ("training",) * 4, is_of_training=False)
