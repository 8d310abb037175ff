"""Our pixels at full size against DCMTK's, within one grey level of 255."""

from __future__ import annotations

import importlib.util
import io
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from pydicom import uid

from beam_pipeline import images
from beam_pipeline.errors import NotScored
from beam_pipeline.images import Picture
from tests import radiographs
from tests.beam_pipeline.images import dcmtk
from tests.beam_pipeline.images.ramp import BITS, LUTS, WINDOWS, Ramp

pytestmark = dcmtk.needed

_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
# Enhanced objects keep their rescale in functional groups (PS3.3 C.7.6.16.2.9). DCMTK
# applies it; a radiograph has none, and we reject an enhanced CT. Without: the same.
_OPTIONS = {"eCT_Supplemental.dcm": ("--no-modality",)}
# Files of 1 and 32 bits a pixel: segmentations, dose grids, a broken one.
_REFUSED = {
    "badVR.dcm",
    "liver.dcm",
    "liver_1frame.dcm",
    "liver_expb.dcm",
    "liver_expb_1frame.dcm",
    "rtdose.dcm",
    "rtdose_1frame.dcm",
    "rtdose_expb.dcm",
    "rtdose_expb_1frame.dcm",
    "rtdose_rle.dcm",
    "rtdose_rle_1frame.dcm",
}
# DCMTK has no decoder for JPEG 2000; these came with what they were made from.
_TWINS = {
    "693_J2KI.dcm": "693_UNCI.dcm",
    "693_J2KR.dcm": "693_UNCR.dcm",
    "JPEG2000.dcm": "JPEG2000_UNC.dcm",
    "MR2_J2KI.dcm": "MR2_UNCI.dcm",
    "MR2_J2KR.dcm": "MR2_UNCR.dcm",
    "MR_small_jp2klossless.dcm": "MR_small.dcm",
    "RG1_J2KI.dcm": "RG1_UNCI.dcm",
    "RG1_J2KR.dcm": "RG1_UNCR.dcm",
    "RG3_J2KI.dcm": "RG3_UNCI.dcm",
    "RG3_J2KR.dcm": "RG3_UNCR.dcm",
    "emri_small_jpeg_2k_lossless.dcm": "emri_small.dcm",
}
_ALONE = {"J2K_pixelrep_mismatch.dcm", "explicit_VR-UN.dcm"}


def picture(data: bytes) -> Picture:
    return images.decode(data, images.read_header(io.BytesIO(data)))


def difference(found: Picture, path: Path, *options: str) -> int:
    """By how much the pixel differs most from that in DCMTK's picture of `path`."""
    expected = dcmtk.render(path, *dcmtk.same_voi(found), *options)
    assert expected is not None
    return int(np.abs(found.pixels - expected).max())


def real_files() -> Iterator[Path]:
    """What comes with pydicom and with pydicom-data."""
    packed = importlib.util.find_spec("data_store")
    stores = [str(Path(pydicom.data.__file__).parent / "test_files")]
    stores += (packed.submodule_search_locations or []) if packed else []
    for store in stores:
        yield from (path for path in sorted(Path(store).rglob("*")) if path.is_file())


def grey_files() -> Iterator[tuple[Path, Picture | None, str | None]]:
    """Each grey image, our picture of it unless we refuse it, its transfer syntax."""
    for path in real_files():
        data = path.read_bytes()
        try:
            header = images.read_header(io.BytesIO(data))
        except NotScored:
            continue
        if header.photometric_interpretation not in _MONOCHROME:
            continue
        try:
            yield path, images.decode(data, header), header.transfer_syntax_uid
        except NotScored:
            yield path, None, header.transfer_syntax_uid


def test_real_files_look_as_in_dcmtk() -> None:
    compared: dict[Path, int] = {}
    ours, theirs = set(), set()
    for path, found, syntax in grey_files():
        if found is not None and syntax in uid.JPEG2000TransferSyntaxes:
            ours.add(path.name)
        elif found is not None:
            options = _OPTIONS.get(path.name, ())
            compared[path] = difference(found, path, *options)
        elif dcmtk.render(path) is not None:
            theirs.add(path.name)
    assert {path.name for path, most in compared.items() if most > 1} == set()
    assert len(compared) == 65
    assert theirs == _REFUSED
    assert ours == _TWINS.keys() | _ALONE


def test_real_jpeg_2000_looks_as_its_twin_in_dcmtk() -> None:
    paths = {path.name: path for path in real_files()}
    for name, twin in _TWINS.items():
        found = picture(paths[name].read_bytes())
        assert difference(found, paths[twin]) <= 1, name


def differing(written: list[Ramp], folder: Path) -> dict[Ramp, int]:
    """The cases that differ from DCMTK by more than one grey level, and by how much."""

    def most(case: Ramp) -> int:
        path = folder / f"{hash(case)}.dcm"
        path.write_bytes(case.file())
        found = picture(path.read_bytes())
        assert found.voi == case.transformation
        return difference(found, path)

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(written, pool.map(most, written), strict=True))
    return {case: grey for case, grey in found.items() if grey > 1}


def test_what_can_be_written_looks_as_in_dcmtk(tmp_path: Path) -> None:
    modalities = (None, (-1.0, 4000.0), (3.0, -1000.0), "LUT")
    voi = (*WINDOWS, "none", *LUTS)
    axes: tuple[Iterable[Any], ...]
    axes = (BITS, (False, True), _MONOCHROME, modalities, voi)
    points = itertools.product(*(enumerate(axis) for axis in axes))
    # Every second one, as on a chessboard: any four of the axes are still crossed.
    half = [point for point in points if sum(place for place, _ in point) % 2]
    written = [Ramp(*(value for _, value in point)) for point in half]
    assert len(written) == 400
    assert differing(written, tmp_path) == {}


@pytest.mark.parametrize("rescale", [(0.5, -100.0), (-0.37, 10.2), (1.0, -0.5)])
def test_dcmtk_drops_the_fractions_of_a_rescale(
    rescale: tuple[float, float], tmp_path: Path
) -> None:
    """PS3.3 C.11.1.1.2 has m × SV + b; DCMTK keeps the integer that it begins with.

    So its picture is ours of a file whose stored values are cut like that, and ours of
    the file itself where there is nothing to cut.

    The image is small: where it has over three pixels for each value, DCMTK 3.6.7 makes
    a table that begins at the lowest value and finds its place by that value cut, which
    moves all of them by its fraction, or reads before the table.
    """
    voi_of_all = (*WINDOWS, *LUTS)
    for bits, signed, voi in itertools.product((8, 12, 16), (False, True), voi_of_all):
        case = Ramp(bits, signed, "MONOCHROME2", rescale, voi, (16, 16))
        path = tmp_path / "case.dcm"
        path.write_bytes(case.file())
        ours = picture(path.read_bytes())
        assert ours.voi == case.transformation
        expected = dcmtk.render(path, *dcmtk.same_voi(ours))
        values = case.values()
        cut = np.trunc(values)
        dtype = np.int16 if cut.min() < 0 else np.uint16
        attributes = case.presentation()
        twin = radiographs.dicom(cut.astype(dtype), bits_stored=16, **attributes)
        found = picture(radiographs.to_bytes(twin)).pixels
        assert np.abs(found - expected).max() <= 1, case
        whole = values == cut
        np.testing.assert_allclose(ours.pixels[whole], expected[whole], atol=1)


@pytest.mark.parametrize("photometric", _MONOCHROME)
@pytest.mark.parametrize(
    ("value", "limit"), [(-2048, None), (-2048, -1900), (2047, 2000)]
)
def test_padding_is_all_that_dcmtk_shows_otherwise(
    photometric: str, value: int, limit: int | None, tmp_path: Path
) -> None:
    """DCMTK windows padding like any pixel; PS3.3 C.7.5.1.1.2 has it left out."""
    case = Ramp(12, True, photometric, None, "wide window")
    stored = case.stored()
    dataset = radiographs.dicom(
        stored,
        PixelPaddingValue=value,
        PixelPaddingRangeLimit=limit,
        **case.presentation(),
    )
    path = tmp_path / "case.dcm"
    path.write_bytes(radiographs.to_bytes(dataset))
    found = picture(path.read_bytes())
    expected = dcmtk.render(path, *dcmtk.same_voi(found))
    low, high = sorted((value, value if limit is None else limit))
    padding = (stored >= low) & (stored <= high)
    assert 0 < padding.sum() < stored.size
    assert (found.pixels[padding] == 0).all()
    assert np.abs(found.pixels - expected)[~padding].max() <= 1


@pytest.mark.parametrize(("width", "position"), [(500, "1"), (0, "2")])
def test_the_first_window_of_several_is_the_one_in_dcmtk(
    width: int, position: str, tmp_path: Path
) -> None:
    path = tmp_path / "case.dcm"
    dataset = radiographs.dicom(
        radiographs.gradient(), WindowCenter=[1000, 3000], WindowWidth=[width, 900]
    )
    path.write_bytes(radiographs.to_bytes(dataset))
    found = picture(path.read_bytes()).pixels
    expected = dcmtk.render(path, "+Wi", position)
    assert np.abs(found - expected).max() <= 1
