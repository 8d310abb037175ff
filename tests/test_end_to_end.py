"""Train a tiny model, export it, score a folder with it, read the Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_pipeline import manifest as manifests
from beam_pipeline.__main__ import main as beam_pipeline
from tests import radiographs
from trainer.__main__ import main as trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of bright against dark chests, from PNG and DICOM files."""
    root = tmp_path_factory.mktemp("trained")
    random = np.random.default_rng(0)
    for name, brightness in [("NORMAL", 0.3), ("PNEUMONIA", 0.7)]:
        folder = root / "data" / name
        folder.mkdir(parents=True)
        for patient in range(30):
            mean = brightness + random.uniform(-0.1, 0.1)
            picture = radiographs.chest(mean, 40, 40)
            noise = random.integers(-8, 8, picture.shape)
            picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
            path = folder / f"person{patient}_1"
            if patient % 2:
                Image.fromarray(picture).save(path.with_suffix(".png"))
            else:
                data = radiographs.to_bytes(radiographs.dicom(picture))
                path.with_suffix(".dcm").write_bytes(data)
    weights = radiographs.save_backbone(root / "backbone.weights.h5")
    changes = [
        "width=0.25",
        "image_size=32",
        "batch_size=16",
        "head.dropout=0",
        "early_stopping_patience=20",
        "stages.0.epochs=20",
        "stages.0.learning_rate=0.01",
        "stages.1.epochs=1",
        "augmentation.contrast=0",
        "augmentation.brightness=0",
        "augmentation.rotation=0",
    ]
    arguments = ["train", f"--weights={weights}", "--min_validation=2"]
    arguments += [f"--set={change}" for change in changes]
    arguments += [f"--data={root / 'data'}"]
    assert trainer([*arguments, f"--output={root / 'model'}"]) == 0
    return root


def test_a_trained_model_scores_a_folder_with_a_bad_file_in_it(
    trained: Path, tmp_path: Path
) -> None:
    export = tmp_path / "export"
    export.mkdir()
    for name, brightness in [("dark", 0.25), ("bright", 0.75)]:
        dataset = radiographs.dicom(radiographs.chest(brightness, 200, 200))
        data = radiographs.to_bytes(dataset)
        (export / f"{name}.dcm").write_bytes(data)
        (export / f"{name}_cut.dcm").write_bytes(data[:-1000])
    command = ["score", f"--input={export}", f"--output={tmp_path / 'out'}"]
    command += [f"--model={trained / 'model'}", "--allow_unblessed"]
    assert beam_pipeline(command) == 0
    table = pq.read_table(tmp_path / "out" / "instances").to_pylist()
    rows = {Path(row["source_uri"]).stem: row for row in table}
    assert {name: row["status"] for name, row in rows.items()} == {
        "dark": "SCORED",
        "bright": "SCORED",
        "dark_cut": "ERROR",
        "bright_cut": "ERROR",
    }
    assert rows["bright"]["score"] > rows["dark"]["score"]
    model = manifests.load(trained / "model")
    assert rows["bright"]["model_name"] == model.name == "model"
    digest = manifests.verify(model, trained / "model")
    assert rows["bright"]["model_digest"] == digest
    for name in ("dark", "bright"):
        logits = np.array(rows[name]["logits"]) / model.calibration.temperature
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(rows[name]["probabilities"], expected, atol=1e-5)
        assert rows[name]["score"] == pytest.approx(expected[1], abs=1e-5)


def test_the_model_says_where_it_comes_from(trained: Path) -> None:
    model = manifests.load(trained / "model")
    assert model.classes == ("NORMAL", "PNEUMONIA")
    assert model.findings == ("PNEUMONIA",)
    split = model.training_data.split
    assert sum(part.images for part in split.values()) == 60
    assert {part: split[part].patients for part in split} == {
        "training": 45,
        "validation": 6,
        "held_out": 9,
    }
    assert model.metrics["auc"].value > 0.9
