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
from beam_pipeline.errors import Unreadable
from beam_pipeline.manifest import Manifest
from beam_pipeline.saved_model import Inference
from tests import radiographs
from tests.trainer.conftest import Trained
from trainer import __main__
from trainer.explanation import predict
from trainer.explanation.predict import Reader


def film(trained: Trained, label: str) -> Path:
    return sorted((trained.data / label).iterdir())[0]


def run(*arguments: object) -> int:
    return __main__.main(["predict", *map(str, arguments)])


def test_one_file_is_one_line(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    file = film(trained, "PNEUMONIA")
    assert run(file, "--model", trained.model_dir) == 0
    seen = predict.reader(trained.model_dir)
    sure = seen.answer(file, seen.read(file)).probabilities[1]
    assert capsys.readouterr().out == f"Pred: PNEUMONIA | Confidence: {sure:.2f}\n"


def test_several_files_are_named_and_a_broken_one_does_not_stop_them(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    missing = tmp_path / "missing.png"
    normal = film(trained, "NORMAL")
    assert run(broken, missing, normal, "--model", trained.model_dir) == 1
    told = capsys.readouterr()
    assert told.out.startswith(f"{normal}: Pred: NORMAL | Confidence: ")
    assert told.out.count("\n") == 1
    assert f"{broken}: UNRECOGNISED" in told.err
    assert f"{missing}: READ_FAILED" in told.err


def test_the_threshold_is_the_users(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    normal = film(trained, "NORMAL")
    assert run(normal, "--model", trained.model_dir, "--threshold", "0") == 0
    assert "Pred: PNEUMONIA | Confidence: 0." in capsys.readouterr().out
    assert run(normal, "--model", trained.model_dir, "--threshold", "7") == 2
    assert run(normal, "--model", trained.model_dir, "--operating_point", "no") == 2
    assert "it has: default" in capsys.readouterr().err


def test_a_lateral_view_is_scored_with_a_warning(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = np.asarray(Image.open(film(trained, "PNEUMONIA")))
    file = tmp_path / "lateral.dcm"
    lateral = radiographs.dicom(picture, ViewPosition="LL", BurnedInAnnotation="YES")
    file.write_bytes(radiographs.to_bytes(lateral))
    assert run(file, "--model", trained.model_dir) == 0
    told = capsys.readouterr()
    assert told.out.startswith("Pred: PNEUMONIA | Confidence: ")
    assert "the job would not score it: LATERAL_VIEW" in told.err
    assert "text may stand in the picture" in told.err


class Answering:
    """A model that says the same of everything."""

    def __init__(self, manifest: Manifest, probabilities: list[float]) -> None:
        self.manifest = manifest
        self.digest = "sha256:0"
        self._probabilities = np.array([probabilities], np.float32)

    def infer(self, images: np.ndarray) -> Inference:
        return Inference(
            self._probabilities,
            np.log(self._probabilities),
            spread=np.array([0.25], np.float32),
        )


def reader(
    trained: Trained, probabilities: list[float], thresholds: tuple[float, ...]
) -> Reader:
    """Of a multi-label model with three findings."""
    known = manifests.load(trained.model_dir)
    classes = ("EFFUSION", "MASS", "NODULE")
    point = replace(
        known.operating_points["default"],
        thresholds=thresholds,
        intervals=None,
        abstain=None,
    )
    manifest = replace(
        known,
        task="multilabel",
        classes=classes,
        findings=classes,
        operating_points={"default": point},
        outlier=None,
    )
    model = Answering(manifest, probabilities)
    return Reader(model, policy(manifest, model.digest, None))


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ((0.5, 0.5, 0.1), "Pred: EFFUSION, NODULE | Confidence: 0.91, 0.20"),
        ((0.95, 0.5, 0.5), "Pred: none | Likeliest: EFFUSION 0.91"),
    ],
)
def test_every_class_above_its_threshold_is_a_label(
    trained: Trained, thresholds: tuple[float, ...], expected: str
) -> None:
    of = reader(trained, [0.91, 0.3, 0.2], thresholds)
    path = film(trained, "NORMAL")
    outcome = of.answer(path, of.read(path))
    assert predict.line(outcome, of.model.manifest.classes) == expected
    assert outcome.spread == 0.25


def test_an_answer_that_is_no_number_is_none(trained: Trained) -> None:
    of = reader(trained, [np.nan, 0.3, 0.2], (0.5, 0.5, 0.5))
    path = film(trained, "NORMAL")
    with pytest.raises(Unreadable, match="NAN_SCORE"):
        of.answer(path, of.read(path))


def test_the_decision_is_the_jobs(trained: Trained) -> None:
    asked = predict.reader(trained.model_dir)
    path = film(trained, "PNEUMONIA")
    seen = asked.read(path)
    found = asked.answer(path, seen)
    again = saved_model.load(trained.model_dir).infer(seen.image[np.newaxis])
    assert found.probabilities == tuple(again.probabilities[0].tolist())
    assert found.threshold == asked.policy.thresholds[0]
    assert found.positive
