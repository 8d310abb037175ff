"""`predict` says of a file what the job would decide, and of what it must not score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from beam_pipeline.decide import policy
from beam_pipeline.manifest import OperatingPoint
from beam_pipeline.records import Outcome
from beam_pipeline.saved_model import Inference
from tests import radiographs
from tests.trainer.small_model import small
from trainer import __main__, predict
from trainer.predict import Reader


def run(*arguments: object) -> int:
    return __main__.main(["predict", *map(str, arguments)])


def test_one_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    film = small().film("PNEUMONIA")
    assert run(film, "--model", small().model_dir) == 0
    assert capsys.readouterr().out == "Pred: PNEUMONIA | Confidence: 1.00\n"


def test_several_files_are_named_and_a_broken_one_does_not_stop_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    missing = tmp_path / "missing.png"
    normal = small().film("NORMAL")
    assert run(broken, missing, normal, "--model", small().model_dir) == 1
    told = capsys.readouterr()
    assert told.out == f"{normal}: Pred: NORMAL | Confidence: 1.00\n"
    assert f"{broken}: UNRECOGNISED" in told.err
    assert f"{missing}: READ_FAILED" in told.err


def test_the_threshold_is_the_users(capsys: pytest.CaptureFixture[str]) -> None:
    normal = small().film("NORMAL")
    assert run(normal, "--model", small().model_dir, "--threshold", "0") == 0
    assert "Pred: PNEUMONIA | Confidence: 0.00" in capsys.readouterr().out
    assert run(normal, "--model", small().model_dir, "--threshold", "7") == 2
    assert run(normal, "--model", small().model_dir, "--operating_point", "no") == 2
    assert "it has: default" in capsys.readouterr().err


def test_a_lateral_view_is_scored_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = np.asarray(Image.open(small().film("PNEUMONIA")))
    file = tmp_path / "lateral.dcm"
    lateral = radiographs.dicom(film, ViewPosition="LL", BurnedInAnnotation="YES")
    file.write_bytes(radiographs.to_bytes(lateral))
    assert run(file, "--model", small().model_dir) == 0
    told = capsys.readouterr()
    assert told.out == "Pred: PNEUMONIA | Confidence: 1.00\n"
    assert "the job would not score it: LATERAL_VIEW" in told.err
    assert "text may stand in the picture" in told.err


class Answering:
    """A model that says the same of everything."""

    def __init__(self, probabilities: list[float], **changes: object) -> None:
        known = manifests.load(small().model_dir)
        self.manifest = replace(known, **changes)
        self.digest = "sha256:0"
        self._probabilities = np.array([probabilities], np.float32)

    def infer(self, images: np.ndarray) -> Inference:
        return Inference(self._probabilities, np.log(self._probabilities))


def reader(probabilities: list[float], thresholds: tuple[float, ...]) -> Reader:
    point = manifests.load(small().model_dir).operating_points["default"]
    points = {"default": OperatingPoint(**{
        **vars(point), "thresholds": thresholds, "intervals": None, "abstain": None,
    })}  # fmt: skip
    model = Answering(
        probabilities,
        task="multilabel",
        classes=("EFFUSION", "MASS", "NODULE"),
        findings=("EFFUSION", "MASS", "NODULE"),
        operating_points=points,
        outlier=None,
    )
    return Reader(model, policy(model.manifest, model.digest, None))


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ((0.5, 0.5, 0.1), "Pred: EFFUSION, NODULE | Confidence: 0.91, 0.20"),
        ((0.95, 0.5, 0.5), "Pred: none | Likeliest: EFFUSION 0.91"),
    ],
)
def test_every_class_above_its_threshold_is_a_label(
    thresholds: tuple[float, ...], expected: str
) -> None:
    of = reader([0.91, 0.3, 0.2], thresholds)
    path = small().film("NORMAL")
    outcome = of.answer(path, of.read(path))
    assert predict.line(outcome, of.model.manifest.classes) == expected


def test_an_answer_that_is_no_number_is_none() -> None:
    of = reader([np.nan, 0.3, 0.2], (0.5, 0.5, 0.5))
    path = small().film("NORMAL")
    with pytest.raises(Exception, match="NAN_SCORE"):
        of.answer(path, of.read(path))


def test_the_decision_is_the_jobs() -> None:
    asked = predict.reader(small().model_dir)
    path = small().film("PNEUMONIA")
    seen = asked.read(path)
    found = asked.answer(path, seen)
    again = saved_model.load(small().model_dir).infer(seen.image[np.newaxis])
    assert found.probabilities == tuple(again.probabilities[0].tolist())
    assert found.threshold == asked.policy.thresholds[0]
    assert isinstance(found, Outcome)
    assert found.positive
