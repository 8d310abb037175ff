from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax

from beam_pipeline import calibration
from beam_pipeline.calibration import CalibrationError
from beam_pipeline.document import Mismatch
from tests import radiographs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    calibration.save(radiographs.site_calibration(), tmp_path / "site.json")
    return tmp_path / "site.json"


def test_what_is_saved_is_loaded(file: Path) -> None:
    assert calibration.load(file) == radiographs.site_calibration()


def test_a_file_that_runs_may_name_is_not_written_over(file: Path) -> None:
    with pytest.raises(FileExistsError):
        calibration.save(radiographs.site_calibration(site="other"), file)
    assert calibration.load(file).site == "Ward 3"


def test_the_digest_is_that_of_the_file(file: Path) -> None:
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    assert calibration.digest(file) == f"sha256:{expected}"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("temperature", 0, "temperature is 0"),
        ("temperature", float("inf"), "temperature is inf"),
        ("site", " ", "site is ' ', expected a name"),
        ("patients", 61, r"1 to 60 \(images\)"),
        ("created", "yesterday", "ISO 8601"),
        ("schema_version", 2, "schema_version"),
        ("threshold", 0.5, "threshold"),
        ("model_digest", None, "model_digest"),
        ("operating_points", {"default": {}}, r"operating_points\.default"),
    ],
)
def test_a_file_that_is_wrong_says_where(
    file: Path, key: str, value: Any, message: str
) -> None:
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, key: value}))
    with pytest.raises(CalibrationError, match=message):
        calibration.load(file)


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_a_file_that_is_no_json_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "site.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match="cannot be read as JSON"):
        calibration.load(path)


def test_a_missing_file_says_where_such_files_come_from(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="trainer calibrate --output"):
        calibration.load(tmp_path / "site.json")


def test_another_model_is_refused_and_both_are_named() -> None:
    site = radiographs.site_calibration()
    model = radiographs.manifest(version="2")
    with pytest.raises(CalibrationError, match=r"brightness 1, sha256:0.*brightness 2"):
        site.require_model(model, "sha256:1")
    site.require_model(radiographs.manifest(), "sha256:0")


def test_points_that_cannot_decide_are_refused() -> None:
    points = radiographs.site_calibration().operating_points
    with_default_only = radiographs.site_calibration(
        operating_points={"screening": points["default"]}
    )
    with pytest.raises(CalibrationError, match="a 'default'"):
        with_default_only.require_model(radiographs.manifest(), "sha256:0")
    assert issubclass(CalibrationError, Mismatch)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_probabilities_are_those_of_scipy(temperature: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 30, (50, 3)).astype(np.float32)
    exact = logits.astype(np.float64) / temperature
    for task, oracle in [
        ("multiclass", softmax(exact, axis=1)),
        ("multilabel", expit(exact)),
    ]:
        found = calibration.probabilities(logits, temperature, task)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, oracle, rtol=1e-12)


def test_a_logit_that_is_none_gives_no_probability() -> None:
    logits = [np.inf, 0.0]
    assert np.isnan(calibration.probabilities(logits, 1.0, "binary")).any()
    logits = [-np.inf, 0.0]
    np.testing.assert_array_equal(
        calibration.probabilities(logits, 1.0, "binary"), [0, 1]
    )
