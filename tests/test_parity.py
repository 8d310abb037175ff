"""A sample of the table of docs/performance.md: reduced decoding and the score."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from beam_pipeline import images, saved_model
from beam_pipeline.manifest import DEFAULT_MODEL
from benchmarks import parity
from benchmarks.parity import Case
from tests import radiographs

NUMBERS = range(4)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real chest radiograph, small enough to be encoded often."""
    root = tmp_path_factory.mktemp("parity")
    data = Path(str(get_testdata_file("RG1_UNCR.dcm"))).read_bytes()
    picture = images.decode(data, radiographs.header_of(data)).pixels
    small = Image.fromarray(picture).resize((760, 800), Image.Resampling.BOX)
    small.save(root / "film.png")
    return root / "film.png"


@pytest.fixture(scope="module")
def model() -> saved_model.SavedModel:
    return saved_model.load(DEFAULT_MODEL)


@pytest.mark.parametrize("name", parity.ENCODINGS)
def test_scores_hardly_depend_on_how_far_an_image_is_decoded(
    name: str, film: Path, model: saved_model.SavedModel
) -> None:
    cases = [Case(film, number, parity.ENCODINGS[name]) for number in NUMBERS]
    pairs = [parity.pair(case, model.manifest.preparation) for case in cases]
    found = parity.differences(pairs, model)
    assert found.halvings.max() >= 1
    assert found.logits.max() <= 0.15
    assert not found.flips


@pytest.mark.parametrize("name", parity.WINDOWS)
def test_no_window_makes_reducing_first_go_wrong(
    name: str, film: Path, model: saved_model.SavedModel
) -> None:
    case = Case(film, 3, parity.ENCODINGS["HTJ2K"], parity.WINDOWS[name])
    pair = parity.pair(case, model.manifest.preparation)
    assert parity.differences([pair], model).logits.max() <= 0.15
