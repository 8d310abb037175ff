"""Each file is measured as it is, and an unreadable one has its reason."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from beam_pipeline import images
from beam_pipeline.manifest import Preparation
from tests import radiographs
from tests.trainer import data_sets
from trainer.exploration import survey


def by_name(seen):
    return {seen.name(row): fact for row, fact in enumerate(seen.measured)}


def test_a_file_is_measured_as_a_model_gets_it(tmp_path):
    picture = data_sets.picture(1, rows=60, columns=90)
    seen = data_sets.surveyed(data_sets.write(tmp_path, {"A/a.png": picture}))
    (facts,) = seen.measured
    prepared = images.prepare(np.asarray(picture), Preparation(height=224, width=224))
    assert (facts.format, facts.channels, facts.bits) == ("PNG", "L", 8)
    assert (facts.width, facts.height, facts.reason) == (90, 60, "")
    assert facts.file_bytes == (tmp_path / "A/a.png").stat().st_size
    assert facts.mean == pytest.approx(prepared.mean())
    assert facts.std == pytest.approx(prepared.std())
    counts, _ = np.histogram(prepared, bins=survey.BINS, range=(0, 256))
    assert seen.histograms[0].tolist() == counts.tolist()
    expected = prepared[:7, 7:14].mean()
    assert seen.small[0, 0, 1] == pytest.approx(expected, abs=0.51)


def test_formats_channels_and_bits(tmp_path):
    deep = Image.fromarray(radiographs.gradient(80, 70, 16))
    header = {"PatientAge": "004Y", "PatientSex": "F", "ViewPosition": "AP"}
    film = radiographs.dicom(radiographs.chest(0.5), **header)
    files = {
        "A/deep.png": deep,
        "A/colour.jpeg": data_sets.picture(1).convert("RGB"),
        "A/film.dcm": radiographs.to_bytes(film),
    }
    seen = data_sets.surveyed(data_sets.write(tmp_path, files))
    kinds = {n: (f.format, f.channels, f.bits) for n, f in by_name(seen).items()}
    assert kinds == {
        "A/deep.png": ("PNG", "I;16", 16),
        "A/colour.jpeg": ("JPEG", "RGB", 8),
        "A/film.dcm": ("DICOM", "MONOCHROME2", 8),
    }
    names = [seen.name(row) for row in range(3)]
    assert seen.columns(names.index("A/film.dcm")) == {
        "age": "4",
        "sex": "F",
        "view": "AP",
    }


def test_unreadable_files_have_their_reason_and_stop_nothing(tmp_path):
    files = {
        "A/empty.png": b"",
        "A/text.png": b"no image at all",
        "A/flat.png": Image.new("L", (50, 50), 7),
        "A/broken.png": b"\x89PNG\r\n\x1a\n and no more",
        "A/good.png": data_sets.picture(1),
    }
    seen = data_sets.surveyed(data_sets.write(tmp_path, files))
    assert {name: fact.reason for name, fact in by_name(seen).items()} == {
        "A/empty.png": "EMPTY_FILE",
        "A/text.png": "UNRECOGNISED",
        "A/flat.png": "CONSTANT_IMAGE",
        "A/broken.png": "CORRUPT_HEADER",
        "A/good.png": "",
    }
    assert (by_name(seen)["A/flat.png"].width, seen.averages["A"].count) == (50, 1)
    assert seen.of("A").sum() == seen.readable.sum() == 1


def test_the_average_of_a_class_is_that_of_its_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "_SLICE", 2)
    files = data_sets.two_classes(5)
    told = []
    listing = data_sets.surveyed(data_sets.write(tmp_path, files)).listing
    seen = survey.survey(listing, told.append)
    assert sum(told) == len(files)
    prepared = survey.pictures([f for f in listing.files if f.labels == ("NORMAL",)])
    assert seen.averages["NORMAL"].count == 5
    np.testing.assert_allclose(seen.averages["NORMAL"].mean, np.mean(prepared, axis=0))
    variance = np.var(np.array(prepared, np.float64), axis=0)
    np.testing.assert_allclose(seen.averages["NORMAL"].variance, variance, atol=1e-6)


def test_a_table_is_right_against_a_header(tmp_path):
    film = radiographs.dicom(radiographs.chest(0.5), PatientAge="004Y", PatientSex="F")
    data_sets.write(tmp_path, {"film.dcm": radiographs.to_bytes(film)})
    table = tmp_path / "data.csv"
    table.write_text("path,label,age,site\nfilm.dcm,A,5,north\n", "utf-8")
    seen = data_sets.surveyed(table)
    known = {"age": "5", "sex": "F", "site": "north"}
    assert seen.columns(0).items() >= known.items()
