from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_pipeline.manifest import OperatingPoint
from tests import radiographs
from trainer.evaluation import site_labels
from trainer.evaluation.site_labels import LabelsError

MODEL = radiographs.manifest()
POINT = MODEL.operating_points["default"]
MANY = radiographs.manifest(
    task="multilabel",
    classes=("NODULE", "EFFUSION"),
    findings=("NODULE", "EFFUSION"),
    operating_points={
        "default": OperatingPoint(**{**vars(POINT), "thresholds": (0.5, 0.5)})
    },
)


def row(uri: str, **changes: Any) -> dict[str, Any]:
    return {
        "source_uri": uri,
        "status": "SCORED",
        "duplicate_of": None,
        "sop_instance_uid": None,
        "study_instance_uid": None,
        "patient_key": None,
        "logits": [0.0, 1.0],
        "model_digest": "sha256:0",
        **changes,
    }


def labels(tmp_path: Path, text: str, model: Any = MODEL) -> site_labels.Labels:
    path = tmp_path / "labels.csv"
    path.write_text(text, "utf-8")
    return site_labels.read(path, model)


def joined(
    tmp_path: Path, rows: list[dict[str, Any]], text: str, model: Any = MODEL
) -> site_labels.Labelled:
    return site_labels.join(rows, labels(tmp_path, text, model))


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("sop_instance_uid", "1.2.1"),
        ("source_uri", "/in/20/a.png"),
        ("path", "a.png"),
        ("path", "20/a.png"),
        ("path", "/in/20/a.png"),
    ],
)
def test_an_image_is_found_by_its_key(tmp_path: Path, column: str, key: str) -> None:
    rows = [
        row("/in/20/b.png", sop_instance_uid="1.2.2", logits=[0.0, 2.0]),
        row("/in/20/a.png", sop_instance_uid="1.2.1", logits=[0.0, 3.0]),
    ]
    found = joined(tmp_path, rows, f"{column},label\n {key} ,BRIGHT\n")
    np.testing.assert_array_equal(found.logits, [[0, 3]])
    np.testing.assert_array_equal(found.truths, [[False, True]])
    assert (found.left_out, found.alone) == (0, 1)


def test_a_study_labels_all_its_scored_images(tmp_path: Path) -> None:
    rows = [
        row("a", study_instance_uid="1.2", logits=[0.0, 1.0]),
        row("b", study_instance_uid="1.2", logits=[0.0, 2.0]),
        row("c", study_instance_uid="1.2", status="REJECTED", logits=None),
        row("d", study_instance_uid="1.2", duplicate_of="a"),
        row("e", study_instance_uid="1.3"),
    ]
    found = joined(tmp_path, rows, "study_instance_uid,label\n1.2,DARK\n")
    np.testing.assert_array_equal(found.logits[:, 1], [1, 2])
    assert found.truths.tolist() == [[True, False]] * 2
    assert found.patients.tolist() == ["1.2", "1.2"]
    assert found.left_out == 2


def test_a_copy_of_a_labelled_image_does_not_count(tmp_path: Path) -> None:
    rows = [
        row("a", sop_instance_uid="1.2.1"),
        row("b", sop_instance_uid="1.2.1", duplicate_of="a"),
    ]
    found = joined(tmp_path, rows, "sop_instance_uid,label\n1.2.1,DARK\n")
    assert (len(found.logits), found.left_out) == (1, 1)


def test_a_patient_is_who_the_labels_say_or_the_row_or_the_study(
    tmp_path: Path,
) -> None:
    rows = [
        row("a", patient_key="k", study_instance_uid="1"),
        row("b", patient_key="k", study_instance_uid="2"),
        row("c", study_instance_uid="3"),
        row("d"),
    ]
    text = "path,label,patient\na,DARK,p1\nb,DARK,\nc,DARK,\nd,BRIGHT,\n"
    found = joined(tmp_path, rows, text)
    assert found.patients.tolist() == ["p1", "k", "3", "d"]
    assert found.alone == 1


def test_a_multilabel_model_has_an_answer_for_each_class(tmp_path: Path) -> None:
    text = "path,EFFUSION,NODULE\na,1,0\nb,1,1\n"
    found = joined(tmp_path, [row("a"), row("b")], text, MANY)
    assert found.truths.tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize(
    ("text", "model", "message"),
    [
        ("label\nDARK\n", MODEL, "needs one of sop_instance_uid"),
        ("path,source_uri,label\na,a,DARK\n", MODEL, "needs one of"),
        ("path,label,colour\na,DARK,red\n", MODEL, "needs one of"),
        ("path,NODULE\na,1\n", MANY, "then NODULE, EFFUSION"),
        ("", MODEL, "has the columns none"),
        ("path,label\n,DARK\n", MODEL, "row 2: no path"),
        ("path,label\na,DARK\ncanary,canary\n", MODEL, "row 3: .*classes DARK, BRIGHT"),
        ("path,label\na\n", MODEL, "row 2: .*none of the classes"),
        ("path,NODULE,EFFUSION\na,1,canary\n", MANY, "row 2: EFFUSION is neither"),
        ("path,label\ncanary,DARK\ncanary,BRIGHT\n", MODEL, "1 rows .*in row 3"),
    ],
)
def test_labels_that_cannot_be_used_say_where_and_repeat_nothing(
    tmp_path: Path, text: str, model: Any, message: str
) -> None:
    with pytest.raises(LabelsError, match=message) as caught:
        labels(tmp_path, text, model)
    assert "canary" not in str(caught.value)


def test_the_same_label_twice_is_one(tmp_path: Path) -> None:
    assert len(labels(tmp_path, "path,label\na,DARK\na,DARK\n").by_key) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nx/canary,DARK\nno,DARK\nnope,DARK\n", "2 of 3 labels"),
        ("path,label\ncanary,DARK\n", "that of 2 different images"),
        ("path,label\nx/canary,DARK\nin/x/canary,BRIGHT\n", "contradict each other"),
    ],
)
def test_labels_that_fit_no_file_or_several_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    rows = [row("/in/x/canary"), row("/in/y/canary")]
    with pytest.raises(LabelsError, match=message) as caught:
        joined(tmp_path, rows, text)
    assert "canary" not in str(caught.value)
