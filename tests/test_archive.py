"""The archives that the benchmarks run on, built of four tiny radiographs."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from beam_pipeline import images
from beam_pipeline.errors import Rejected
from beam_pipeline.images import eligibility
from beam_pipeline.images.rules import compiled
from beam_pipeline.manifest import DEFAULT_MODEL, load
from benchmarks import archive
from benchmarks.archive import Mixture
from benchmarks.encodings import ENCODINGS, MIX

SIZE = (320, 300)


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("radiographs")
    for number in range(4):
        ramp = np.add.outer(np.arange(30) * (number + 1), np.arange(40)) % 256
        Image.fromarray(ramp.astype(np.uint8)).save(folder / f"{number}.jpeg")
    return folder


def built(radiographs: Path, folder: Path, studies: int, mixture: Mixture) -> Path:
    made = folder / "archive"
    archive.build(radiographs, made, studies, mixture, radiographs.parent / "cache")
    return made


def rejection(data: bytes) -> str | None:
    """Why the model in the box does not score it."""
    model = load(DEFAULT_MODEL)
    try:
        header = images.read_header(io.BytesIO(data))
        eligibility.require(eligibility.check(header, compiled(model)))
    except Rejected as error:
        return str(error.reason)
    return None


def test_every_encoding_can_be_read_and_shows_its_radiograph(
    radiographs: Path, tmp_path: Path
) -> None:
    mixture = Mixture(encodings=tuple(ENCODINGS), size=SIZE, distinct=2)
    made = built(radiographs, tmp_path, 16, mixture)
    pictures = []
    for path in sorted(made.iterdir()):
        data = path.read_bytes()
        header = images.read_header(io.BytesIO(data))
        assert (header.columns, header.rows) == SIZE
        pictures.append(images.decode(data, header).pixels.astype(float))
    for each in (pictures[:8], pictures[8:]):
        # Polarity, bits and codec aside they are one picture; its window shifts a bit.
        for picture in each:
            assert np.corrcoef(picture.ravel(), each[0].ravel())[0, 1] > 0.98
    syntaxes = [
        pydicom.dcmread(path).file_meta.TransferSyntaxUID
        for path in sorted(made.glob("*.dcm"))[:7]
    ]
    wanted = [each.transfer_syntax_uid for each in ENCODINGS.values()][:7]
    assert syntaxes == wanted


def test_no_two_files_are_the_same_though_few_are_encoded(
    radiographs: Path, tmp_path: Path
) -> None:
    mixture = Mixture(encodings=("uncompressed", "png"), size=SIZE, distinct=1)
    made = built(radiographs, tmp_path, 12, mixture)
    contents = {path.read_bytes() for path in made.iterdir()}
    assert len(contents) == 12
    files = [pydicom.dcmread(path) for path in sorted(made.glob("*.dcm"))]
    assert len({each.SOPInstanceUID for each in files}) == len(files) == 6
    assert len({(each.WindowCenter, each.WindowWidth) for each in files}) == 6
    pictures = [np.asarray(Image.open(path)) for path in sorted(made.glob("*.png"))]
    assert len(pictures) == 6
    assert all(np.array_equal(each, pictures[0]) for each in pictures)


def test_the_same_archive_comes_out_every_time(
    radiographs: Path, tmp_path: Path
) -> None:
    mixture = Mixture(size=SIZE, distinct=4)
    for name in ("one", "two"):
        archive.build(radiographs, tmp_path / name, 4, mixture, tmp_path / f"{name}-c")
    one, two = (
        [path.read_bytes() for path in sorted((tmp_path / name).iterdir())]
        for name in ("one", "two")
    )
    assert one == two


def test_the_share_of_ineligible_files_is_rejected_and_no_other(
    radiographs: Path, tmp_path: Path
) -> None:
    mixture = Mixture(size=SIZE, distinct=2, ineligible=0.3)
    made = built(radiographs, tmp_path, 20, mixture)
    found = [rejection(path.read_bytes()) for path in sorted(made.iterdir())]
    assert [each is None for each in found] == list(map(mixture.is_eligible, range(20)))
    assert found.count(None) == mixture.eligible(20) == 14
    assert {each for each in found if each} == {"BODY_PART", "NON_IMAGE"}
    chests = [
        pydicom.dcmread(path).file_meta.TransferSyntaxUID
        for path, reason in zip(sorted(made.iterdir()), found, strict=True)
        if reason is None
    ]
    # The encodings take turns among what is scored, whatever lies between.
    assert chests[:8] == [ENCODINGS[name].transfer_syntax_uid for name in MIX] * 2


def test_radiographs_may_keep_their_size(radiographs: Path, tmp_path: Path) -> None:
    mixture = Mixture(encodings=("jpegls",), size=None, distinct=1)
    [path] = built(radiographs, tmp_path, 1, mixture).iterdir()
    dataset = pydicom.dcmread(path)
    assert (dataset.Columns, dataset.Rows) == (40, 30)


def test_the_flags_say_what_they_want() -> None:
    parser = argparse.ArgumentParser()
    archive.add_arguments(parser)
    assert archive.mixture(parser.parse_args([]), MIX) == Mixture()
    original = parser.parse_args(["--size", "original"])
    assert archive.mixture(original, MIX).size is None
    with pytest.raises(ValueError, match=r"--size 12: give COLUMNSxROWS"):
        archive.mixture(parser.parse_args(["--size", "12"]), MIX)
    with pytest.raises(ValueError, match=r"--ineligible 1\.0: give a share"):
        archive.mixture(parser.parse_args(["--ineligible", "1"]), MIX)


def test_a_folder_without_radiographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no \.jpeg radiographs"):
        archive.build(tmp_path, tmp_path / "archive", 1, Mixture(size=SIZE))
