"""Files are scored as the job scores them, and what cannot be read is counted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from beam_pipeline import saved_model
from tests import radiographs
from trainer.data import dataset
from trainer.data.dataset import DatasetError, Naming
from trainer.evaluation import scoring

NAMING = Naming(r"^(p\d+)")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "brightness"
    return saved_model.load(
        radiographs.save_model(folder, classes=("DARK", "BRIGHT"), findings=("BRIGHT",))
    )


@pytest.fixture
def folder(tmp_path):
    """DARK and BRIGHT chests: PNG, one DICOM file, and one that is no image."""
    for index in range(40):
        name = "BRIGHT" if index % 2 else "DARK"
        (tmp_path / name).mkdir(exist_ok=True)
        pixels = radiographs.chest(0.2 + 0.6 * (index % 2) + index / 500)
        path = (
            tmp_path
            / name
            / f"p{index // 4}_{'virus' if index % 3 else 'x'}{index}.png"
        )
        Image.fromarray(pixels).save(path)
    header = {"PatientAge": "004Y", "PatientSex": "F", "ViewPosition": "AP"}
    file = radiographs.dicom(radiographs.chest(0.7), **header)
    (tmp_path / "BRIGHT" / "p99.dcm").write_bytes(radiographs.to_bytes(file))
    (tmp_path / "DARK" / "p98.png").write_bytes(b"")
    return tmp_path


def test_scores_are_the_models_and_labels_in_its_order(model, folder):
    found = scoring.score(model, dataset.find(folder, NAMING))
    predictions = found.predictions
    assert predictions.classes == ("DARK", "BRIGHT")
    assert len(predictions) == 41
    assert found.left_out == {"EMPTY_FILE": 1}
    for name, score, positive in zip(
        predictions.names, predictions.scores, predictions.positives, strict=True
    ):
        assert positive == name.startswith("BRIGHT/")
        if name.endswith(".png"):
            with Image.open(folder / name) as image:
                mean = np.asarray(image).mean()
            expected = radiographs.brightness_score(mean)
            assert score == pytest.approx(expected, abs=0.01)
    assert set(predictions.patients) >= {"/DARK/p0", "/BRIGHT/p0", "/BRIGHT/p99"}


def test_a_header_fills_the_columns_that_the_data_has_not(model, folder):
    columns = scoring.score(model, dataset.find(folder, NAMING)).predictions.columns
    known = {name: sorted(set(values)) for name, values in columns.items()}
    assert known == {"age": ["", "4.0"], "sex": ["", "F"], "view": ["", "AP"]}


def test_a_control_sees_the_same_images_without_their_middle(model, folder):
    found = scoring.score(model, dataset.find(folder, NAMING), ("occlude_center",))
    blind = found.controls["occlude_center"]
    assert (blind.names == found.predictions.names).all()
    # Black makes them darker, and this model knows brightness alone.
    assert (blind.scores < found.predictions.scores).all()


def test_a_spread_is_that_of_the_model(model, folder, tmp_path_factory):
    of_members = saved_model.load(
        radiographs.save_model(
            tmp_path_factory.mktemp("model") / "spread",
            radiographs.SpreadBrightness(),
            classes=("DARK", "BRIGHT"),
            findings=("BRIGHT",),
            spread=radiographs.SPREAD,
        )
    )
    examples = dataset.find(folder, NAMING)
    found = scoring.score(of_members, examples, ("occlude_center",))
    # The logit is 8 × (mean − 0.5), the spread a tenth of the mean.
    for predictions in (found.predictions, found.controls["occlude_center"]):
        means = predictions.logits[:, 1] / 8 + 0.5
        np.testing.assert_allclose(predictions.spread, means / 10, atol=1e-6)
    assert scoring.score(model, examples).predictions.spread is None


def test_the_middle_is_black_and_the_border_is_as_it_was():
    images = np.full((2, 20, 40, 1), 9, np.uint8)
    occluded = scoring.occlude_center(images)
    assert (occluded[:, 3:17, 6:34] == 0).all()
    assert occluded.astype(int).sum() == 9 * 2 * (20 * 40 - 14 * 28)
    assert (images == 9).all()


def test_classes_that_the_model_has_not_are_refused(model, folder):
    (folder / "BRIGHT").rename(folder / "GREY")
    with pytest.raises(DatasetError, match=r"has the classes GREY.*DARK, BRIGHT alone"):
        scoring.score(model, dataset.find(folder, NAMING))


def test_a_table_of_labels_needs_a_model_of_labels(model, folder):
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*.png"))]
    rows = [f"{path},{path.parent}\n" for path in files]
    (folder / "table.csv").write_text("path,labels\n" + "".join(rows))
    with pytest.raises(DatasetError, match="is binary, and the data is not"):
        scoring.score(model, dataset.find(folder / "table.csv", NAMING))


def test_nothing_that_can_be_read_is_an_error(model, tmp_path):
    for index, name in enumerate(("DARK", "BRIGHT")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_text(f"no image {index}")
    with pytest.raises(DatasetError, match="none of 2 files can be read"):
        scoring.score(model, dataset.find(tmp_path, NAMING))


def test_a_subtype_stands_in_the_file_name(folder):
    examples = dataset.find(folder, Naming(r"^(p\d+)", subtype="(virus)"))
    assert set(examples.columns["subtype"]) == {"virus", ""}
