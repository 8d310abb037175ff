from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline import manifest as manifests
from beam_pipeline.document import Mismatch
from beam_pipeline.manifest import Blessing, ManifestError, OperatingPoint
from tests import radiographs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "variables" / "data").write_bytes(b"weights")
    files = manifests.file_digests(tmp_path)
    manifests.save(radiographs.manifest(files=files), tmp_path)
    return tmp_path


def edit(folder: Path, keys: str, value: Any) -> None:
    path = folder / manifests.MANIFEST_PATH
    document = json.loads(path.read_text())
    *parents, last = keys.split(".")
    target = document
    for key in parents:
        target = target[key]
    if value is None:
        del target[last]
    else:
        target[last] = value
    path.write_text(json.dumps(document))


def test_what_is_saved_is_loaded(folder: Path) -> None:
    files = manifests.file_digests(folder)
    assert manifests.load(folder) == radiographs.manifest(files=files)


def test_an_outlier_score_is_described_or_there_is_none(folder: Path) -> None:
    assert manifests.load(folder).outlier is None
    manifests.save(radiographs.manifest(outlier=radiographs.OUTLIER), folder)
    found = manifests.load(folder).outlier
    assert found == radiographs.OUTLIER
    assert found.limit == 0.4


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("outlier.flag_above", "0.95", "one of the quantiles"),
        ("outlier.quantiles", {"0.99": "high"}, r"outlier\.quantiles\.0\.99"),
        ("outlier.quantiles", {"0.99": float("nan")}, "outlier.quantiles"),
        ("outlier.method", None, "method"),
    ],
)
def test_an_outlier_score_that_is_wrong_says_where(
    folder: Path, keys: str, value: Any, message: str
) -> None:
    manifests.save(radiographs.manifest(outlier=radiographs.OUTLIER), folder)
    edit(folder, keys, value)
    with pytest.raises(ManifestError, match=message):
        manifests.load(folder)


def test_all_that_a_model_may_say_is_saved_and_loaded(folder: Path) -> None:
    plain = radiographs.manifest()
    point = OperatingPoint(
        **{
            **vars(plain.operating_points["default"]),
            "intervals": ((0.4, 0.6),),
            "abstain": (0.45, 0.55),
        }
    )
    full = radiographs.manifest(
        operating_points={"default": point},
        spread=radiographs.SPREAD,
        explanation=radiographs.EXPLANATION,
        blessing=Blessing(
            blessed=False,
            required={"auc": 0.95},
            reasons=("auc 0.900 of 0.95: missed",),
            compared_with="brightness 0 sha256:0",
        ),
        training_data=dataclasses.replace(plain.training_data, split_digest="sha256:1"),
    )
    manifests.save(full, folder)
    assert manifests.load(folder) == full


def test_a_manifest_that_says_less_is_loaded(folder: Path) -> None:
    """As versions before wrote it."""
    path = folder / manifests.MANIFEST_PATH
    document = json.loads(path.read_text())
    for key in ("outlier", "spread", "explanation", "blessing"):
        del document[key]
    for point in document["operating_points"].values():
        del point["intervals"], point["abstain"]
    del document["training_data"]["split_digest"]
    path.write_text(json.dumps(document))
    model = manifests.load(folder)
    assert (model.spread, model.explanation, model.blessing) == (None, None, None)
    assert "no blessing" in model.objection
    point = model.operating_points["default"]
    assert (point.intervals, point.abstain) == (None, None)
    assert model.training_data.split_digest is None


def verdict(blessed: bool, *reasons: str) -> Blessing:
    return Blessing(blessed=blessed, required={}, reasons=reasons, compared_with=None)


@pytest.mark.parametrize(
    ("blessing", "said"),
    [
        (None, "nobody said what it must reach"),
        (verdict(False, "auc 0.7 of 0.9: missed", "slow"), "0.9: missed; slow"),
        (verdict(False), "does not say why"),
    ],
)
def test_a_model_that_is_not_blessed_says_why_and_what_to_do(
    blessing: Blessing | None, said: str
) -> None:
    model = radiographs.manifest(blessing=blessing)
    with pytest.raises(ManifestError, match=said) as caught:
        model.require_blessing()
    assert "--allow_unblessed" in str(caught.value)


def test_a_blessed_model_may_be_used() -> None:
    model = radiographs.manifest(blessing=verdict(True))
    assert model.objection is None
    model.require_blessing()


def test_a_folder_without_a_manifest_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is not a model"):
        manifests.load(tmp_path)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("colour", "red", "colour"),
        ("preparation.colour", "red", "manifest.preparation"),
        ("classes", None, "classes"),
        ("preparation.height", "224", "manifest.preparation.height"),
        ("preparation.height", 0, "preparation.height"),
        ("preparation.resize", "crop", "'stretch' or 'pad'"),
        ("preparation.version", 2, "preparation.version"),
        ("schema_version", 2, "schema_version"),
        ("task", "regression", "task"),
        ("findings", ["RED"], "findings"),
        ("findings", [], "findings"),
        ("classes", ["BRIGHT", "BRIGHT"], "classes"),
        ("operating_points", {}, "'default'"),
        ("operating_points.default.thresholds", [0.5, 0.5], "1 of them"),
        ("operating_points.default.thresholds", [1.5], "thresholds"),
        ("operating_points.default.sensitivity.low", 0.95, "low <= value"),
        ("operating_points.default.abstain", [0.6, 0.4], "low <= high"),
        ("operating_points.default.abstain", [0.6, 1.4], r"in \[0, 1\]"),
        ("operating_points.default.abstain", [0.6], "2 values"),
        ("operating_points.default.intervals", [[0.6, 0.4]], "a low and a high"),
        ("operating_points.default.intervals", [[0.1, 0.4]] * 2, "each threshold"),
        ("operating_points.default.intervals", [0.1, 0.4], r"intervals\[0\].*a list"),
        ("spread", {"method": "guess", "of": 4}, "'ensemble' or 'augmentation'"),
        ("spread", {"method": "ensemble", "of": 1}, "2 or more"),
        ("explanation", {"method": "m", "layer": "l", "height": 0, "width": 7}, "1 or"),
        ("blessing", {"blessed": True}, "compared_with"),
        ("calibration.temperature", 0.0, "temperature"),
        ("eligibility.patient_age_years", [1, 2, 3], "2 values"),
    ],
)
def test_a_manifest_that_is_wrong_says_where(
    folder: Path, keys: str, value: Any, message: str
) -> None:
    edit(folder, keys, value)
    with pytest.raises(ManifestError, match=message):
        manifests.load(folder)


def test_a_manifest_that_is_no_json_says_so(folder: Path) -> None:
    (folder / manifests.MANIFEST_PATH).write_text("{")
    with pytest.raises(ManifestError, match="JSON"):
        manifests.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("variables/data", b"other", "changed: variables/data"),
        ("variables/data", None, "missing: variables/data"),
        ("notes.txt", b"hello", "added: notes.txt"),
    ],
)
def test_a_changed_model_is_refused_and_says_what_differs(
    folder: Path, name: str, content: bytes | None, message: str
) -> None:
    path = folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        manifests.verify(manifests.load(folder), folder)


def test_the_digest_covers_the_files_and_the_manifest(folder: Path) -> None:
    before = manifests.verify(manifests.load(folder), folder)
    edit(folder, "operating_points.default.thresholds", [0.6])
    after = manifests.verify(manifests.load(folder), folder)
    assert before.startswith("sha256:")
    assert before != after


def test_a_multilabel_model_needs_a_threshold_for_each_class() -> None:
    with pytest.raises(Mismatch, match="2 of them"):
        radiographs.manifest(task="multilabel")
