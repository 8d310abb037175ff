"""The model in the box, on real radiographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_pipeline import manifest as manifests
from beam_pipeline import saved_model
from beam_pipeline.__main__ import main
from beam_pipeline.manifest import DEFAULT_MODEL
from demo import assemble

ROOT = Path(__file__).parent.parent
NON_IMAGE = ("REJECTED", "NON_IMAGE")
SOP_CLASS = ("REJECTED", "UNSUPPORTED_SOP_CLASS")
SCORED = ("SCORED", None)

EXPECTED = {
    **{f"{name}.dcm": SCORED for name in assemble.CHESTS},
    **{f"{name}.dcm": ("REJECTED", "BODY_PART") for name in assemble.EXTREMITIES},
    **{f"{name}.dcm": SOP_CLASS for name in assemble.OTHERS},
    "reportsi.dcm": NON_IMAGE,
    "test-SR.dcm": NON_IMAGE,
    "rtdose.dcm": NON_IMAGE,
    "rtplan.dcm": NON_IMAGE,
    "rtstruct.dcm": NON_IMAGE,
    "waveform_ecg.dcm": NON_IMAGE,
    "RG1_UNCR_8bit.png": SCORED,
    "RG1_16bit.png": SCORED,
    "RG1_palette.png": SCORED,
    "RG1_UNCR.jpg": SCORED,
    "RG3_UNCR_8bit.png": SCORED,
    "RG3_UNCR.jpg": SCORED,
    "truncated.dcm": ("ERROR", "PIXELDATA_TRUNCATED"),
    "notes.dcm": ("ERROR", "UNRECOGNISED"),
    "empty.dcm": ("ERROR", "EMPTY_FILE"),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    root = tmp_path_factory.mktemp("demo")
    assemble.main(root / "export")
    return scored(root, f"--eligibility={ROOT / 'demo' / 'rules.toml'}")


def scored(root: Path, *flags: str) -> dict[str, dict]:
    command = ["score", f"--input={root / 'export'}", f"--output={root / 'out'}"]
    assert main([*command, *flags]) == 0
    table = pq.read_table(root / "out" / "instances").to_pylist()
    assert len(table) == len(EXPECTED)
    return {Path(row["source_uri"]).name: row for row in table}


def test_every_file_of_the_demo_ends_as_it_should(rows: dict[str, dict]) -> None:
    found = {name: (row["status"], row["reason"]) for name, row in rows.items()}
    assert found == EXPECTED


def test_an_adult_is_not_scored(tmp_path: Path) -> None:
    assemble.main(tmp_path / "export")
    rows = scored(tmp_path)
    for name in assemble.CHESTS:
        row = rows[f"{name}.dcm"]
        assert (row["reason"], row["score"]) == ("AGE_OUT_OF_SCOPE", None)


def test_the_encoding_hardly_changes_the_score(rows: dict[str, dict]) -> None:
    logits = {name: row["logits"] for name, row in rows.items()}
    # JPEG 2000 is decoded at a fraction of its size: docs/performance.md.
    assert logits["RG1_UNCR.dcm"] == pytest.approx(logits["RG1_J2KR.dcm"], abs=0.15)
    assert logits["RG1_UNCI.dcm"] == pytest.approx(logits["RG1_J2KI.dcm"], abs=0.15)
    score = {name: row["score"] for name, row in rows.items()}
    assert score["RG1_UNCR.dcm"] == pytest.approx(score["RG1_UNCI.dcm"], abs=0.02)


def test_a_leg_is_unlike_the_training_images_and_a_chest_is_not(
    rows: dict[str, dict],
) -> None:
    flagged = {
        name
        for name, row in rows.items()
        if row["status"] == "SCORED" and "UNLIKE_TRAINING" in row["flags"]
    }
    assert flagged == {"RG3_UNCR_8bit.png", "RG3_UNCR.jpg"}


def test_files_of_one_image_are_marked_as_such(rows: dict[str, dict]) -> None:
    names = ("RG1_UNCR.dcm", "RG1_UNCR_8bit.png")
    twins = {rows[name]["image_digest"] for name in names}
    assert len(twins) == 1
    copies = [r for r in rows.values() if r["image_digest"] in twins]
    assert sum("DUPLICATE" in row["flags"] for row in copies) == len(copies) - 1


def test_a_png_of_the_picture_has_the_score_of_the_dicom(rows: dict[str, dict]) -> None:
    score = {name: row["score"] for name, row in rows.items()}
    assert score["RG1_UNCR_8bit.png"] == pytest.approx(score["RG1_UNCR.dcm"], abs=1e-6)
    assert score["RG1_16bit.png"] == pytest.approx(score["RG1_UNCI.dcm"], abs=1e-6)
    assert score["RG1_palette.png"] == pytest.approx(score["RG1_UNCI.dcm"], abs=1e-6)


def test_the_model_is_whole_and_small_enough() -> None:
    manifests.verify(manifests.load(DEFAULT_MODEL), DEFAULT_MODEL)
    sizes = [p.stat().st_size for p in DEFAULT_MODEL.rglob("*") if p.is_file()]
    assert sum(sizes) <= 16 * 2**20


def test_its_figures_come_from_patients_of_their_own() -> None:
    model = manifests.load(DEFAULT_MODEL)
    auc = model.metrics["auc"]
    assert auc.value >= 0.99
    assert auc.n == model.training_data.split["held_out"].images
    thresholds = {
        name: point.thresholds[0] for name, point in model.operating_points.items()
    }
    assert thresholds["screening"] <= thresholds["default"] <= thresholds["rule_in"]


def test_it_is_blessed_for_what_it_reaches() -> None:
    model = manifests.load(DEFAULT_MODEL)
    assert model.objection is None
    assert model.blessing.required == {"auc": 0.95, "accuracy": 0.9}
    reasons = {reason.split()[0]: reason for reason in model.blessing.reasons}
    for name, least in model.blessing.required.items():
        value = model.metrics[name].value
        assert value >= least
        assert reasons[name] == f"{name} {value:.3f} of {least:g}: held"


def test_it_explains_itself_and_carries_its_card() -> None:
    model = saved_model.load(DEFAULT_MODEL)
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 1), np.uint8)
    heatmaps = model.explain(np.repeat(image, 2, axis=0), np.array([0, 1], np.int32))
    assert heatmaps.shape == (2, 224, 224)
    assert heatmaps.max() == pytest.approx(1, abs=1e-6)
    assert not np.array_equal(*heatmaps)
    card = "assets.extra/MODEL_CARD.md"
    assert card in model.manifest.files
    title = f"# Model card: {model.manifest.name} {model.manifest.version}\n"
    assert (DEFAULT_MODEL / card).read_text("utf-8").startswith(title)


def test_its_thresholds_have_intervals() -> None:
    for point in manifests.load(DEFAULT_MODEL).operating_points.values():
        [(low, high)] = point.intervals
        assert low <= point.thresholds[0] <= high


def test_it_says_whom_it_is_for() -> None:
    model = manifests.load(DEFAULT_MODEL)
    assert "Research only" in model.intended_use
    assert "children aged 1-5" in model.intended_use
    assert model.eligibility.patient_age_years == (1, 5)
    assert "10.17632/rscbjbr9sj" in model.training_data.source
