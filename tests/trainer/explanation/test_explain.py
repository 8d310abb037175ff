"""`explain` draws heatmaps where they lie, and tells no name but in its index."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipeline.images.prepare import Place
from beam_pipeline.records import Outcome
from beam_pipeline.saved_model import SavedModel
from tests import radiographs
from tests.trainer.conftest import Trained
from trainer import __main__
from trainer.explanation import explain, predict
from trainer.explanation.explain import Explained
from trainer.explanation.radiograph import Radiograph


def films_of(trained: Trained, label: str, count: int) -> list[Path]:
    return sorted((trained.data / label).iterdir())[:count]


def run(trained: Trained, output: Path, *arguments: object) -> int:
    flags = ["--model", trained.model_dir, "--output", output, *arguments]
    return __main__.main(["explain", *map(str, flags)])


def index(output: Path) -> list[dict[str, str]]:
    with (output / "index.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_files_get_numbers_and_the_index_their_names(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "Doe^Jane.dcm"
    film = np.asarray(Image.open(films_of(trained, "PNEUMONIA", 1)[0]))
    dicom = radiographs.dicom(film, BurnedInAnnotation="YES")
    secret.write_bytes(radiographs.to_bytes(dicom))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    normal = films_of(trained, "NORMAL", 1)[0]
    output = tmp_path / "heatmaps"
    assert run(trained, output, secret, broken, normal) == 1
    made = sorted(path.name for path in output.iterdir())
    assert made == ["001-heatmap.png", "003-heatmap.png", "index.csv"]
    rows = index(output)
    assert [row["file"] for row in rows] == [str(secret), str(broken), str(normal)]
    assert [row["heatmap"] for row in rows] == [made[0], "", made[1]]
    assert rows[0]["class"] == "PNEUMONIA"
    assert rows[1]["reason"].startswith("EMPTY_FILE")
    assert float(rows[0]["probability"]) > float(rows[2]["probability"])
    with Image.open(output / made[0]) as picture:
        assert min(picture.size) > 400
    assert f"{secret}: text may stand in the picture" in capsys.readouterr().err


def test_a_class_can_be_asked_for(trained: Trained, tmp_path: Path) -> None:
    file = films_of(trained, "NORMAL", 1)[0]
    assert run(trained, tmp_path / "one", file, "--class", "NORMAL") == 0
    assert index(tmp_path / "one")[0]["class"] == "NORMAL"
    assert run(trained, tmp_path / "two", file, "--class", "FRACTURE") == 2


def test_the_patch_is_where_the_score_comes_from(trained: Trained) -> None:
    reader = predict.reader(trained.model_dir)
    heatmaps = [
        explain.explain(reader, file).heatmap
        for file in films_of(trained, "PNEUMONIA", 20)
    ]
    mean = np.mean(heatmaps, axis=0)
    middle = mean[10:22, 10:22].mean()
    border = np.concatenate([mean[:3].ravel(), mean[-3:].ravel()]).mean()
    assert middle > border


def test_a_page_of_examples_has_what_was_right(
    trained: Trained, tmp_path: Path
) -> None:
    output = tmp_path / "page"
    flags = ("--data", trained.data, "--examples", "2")
    assert run(trained, output, *flags) == 0
    with Image.open(output / "gradcam_visualizations.png") as page:
        assert np.asarray(page.convert("L")).std() > 10


def test_the_sanity_check_of_an_exported_model_passes(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "check"
    files = films_of(trained, "PNEUMONIA", 24)
    assert run(trained, output, *files, "--sanity_check") == 0
    assert "depend on what the model has learned" in capsys.readouterr().out
    with (output / "sanity_check.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[0]["rank_correlation"]) == 1
    assert float(rows[-1]["share_of_variables"]) == 1
    assert (output / "sanity_check.png").exists()


def test_heatmaps_that_never_change_fail_the_check(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = np.random.default_rng(0).random((4, 32, 32)).astype(np.float32)
    explained = SavedModel.explain
    monkeypatch.setattr(
        SavedModel,
        "explain",
        lambda self, images, indices: (
            edges if len(images) == 4 else explained(self, images, indices)
        ),
    )
    files = films_of(trained, "PNEUMONIA", 4)
    assert run(trained, tmp_path / "check", *files, "--sanity_check") == 1


@pytest.mark.parametrize("flags", [(), ("film.png", "--data", "folder")])
def test_files_or_data(
    trained: Trained, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    assert run(trained, tmp_path / "out", *flags) == 2


def test_a_padded_map_lies_on_the_picture_alone() -> None:
    """A wide picture in a square input: the map's black bars are cut away."""
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[2:6, 4:] = 1
    heatmap[:2] = 0.7
    seen = Radiograph(
        pixels=np.zeros((20, 40), np.uint8),
        pixel_aspect=1.0,
        image=np.zeros((8, 8, 1), np.uint8),
        place=Place(2, 0, 4, 8),
    )
    of = Explained(seen, Outcome(source_uri=""), "A", 0.5, heatmap)
    panel = explain.panel(of)
    assert panel.picture.shape == panel.heatmap.shape == (20, 40)
    assert panel.heatmap[:, :15].max() < 0.1
    assert panel.heatmap[:, 25:].min() > 0.9


def test_pixels_that_are_not_square_are_drawn_square() -> None:
    seen = Radiograph(
        pixels=np.zeros((20, 40), np.uint8),
        pixel_aspect=2.0,
        image=np.zeros((8, 8, 1), np.uint8),
        place=Place(0, 0, 8, 8),
    )
    of = Explained(seen, Outcome(source_uri=""), "A", 0.5, np.ones((8, 8), np.float32))
    assert explain.panel(of).picture.shape == (40, 40)
