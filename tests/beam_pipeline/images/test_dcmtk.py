"""Our pixels at full size against DCMTK's, within one grey level of 255."""

from __future__ import annotations

import importlib.util
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
from numpy.typing import NDArray

from beam_pipeline import images
from beam_pipeline.errors import NotScored
from beam_pipeline.images import Picture
from tests import radiographs
from tests.beam_pipeline.images import dcmtk

pytestmark = dcmtk.needed

# Enhanced objects keep their rescale in functional groups, frame by frame (PS3.3
# C.7.6.16.2.9); a radiograph has none, and an enhanced CT is rejected.
_EXPLAINED = {"eCT_Supplemental.dcm"}
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")


def picture(data: bytes) -> Picture:
    return images.decode(data, images.read_header(io.BytesIO(data)))


def real_files() -> Iterator[Path]:
    """What comes with pydicom and with pydicom-data."""
    packed = importlib.util.find_spec("data_store")
    stores = [str(Path(pydicom.data.__file__).parent / "test_files")]
    stores += (packed.submodule_search_locations or []) if packed else []
    for store in stores:
        yield from (path for path in sorted(Path(store).rglob("*")) if path.is_file())


def grey(path: Path) -> Picture | None:
    """Our picture of a grey image; None for another file, or one nobody can read."""
    data = path.read_bytes()
    try:
        header = images.read_header(io.BytesIO(data), path.name)
        if header.photometric_interpretation not in _MONOCHROME:
            return None
        return images.decode(data, header)
    except NotScored:
        return None


def test_real_files_look_as_in_dcmtk() -> None:
    compared, differing = 0, {}
    for path in real_files():
        found = grey(path)
        expected = None if found is None else dcmtk.render(path, *dcmtk.same_voi(found))
        if found is None or expected is None or path.name in _EXPLAINED:
            continue
        compared += 1
        difference = np.abs(found.pixels.astype(int) - expected).max()
        if difference > 1:
            differing[path.name] = int(difference)
    assert not differing
    assert compared >= 55


@dataclass(frozen=True)
class Case:
    """One way to write the same ramp."""

    bits: int
    signed: bool
    photometric: str
    rescale: tuple[float, float] | None
    voi: str

    def stored(self) -> NDArray[Any]:
        ramp = radiographs.gradient(64, 80, self.bits)
        wide = self.bits > 8
        if not self.signed:
            return ramp if wide else ramp.astype(np.uint8)
        shifted = ramp.astype(np.int32) - 2 ** (self.bits - 1)
        return shifted.astype(np.int16 if wide else np.int8)

    def file(self, shift: float = 0.0) -> bytes:
        """The file; `shift` is added to the values after the Modality LUT."""
        stored = self.stored()
        slope, intercept = self.rescale or (1.0, 0.0)
        values = np.array([stored.min(), stored.max()]) * slope + intercept
        attributes = self._voi(float(values.min()), float(np.ptp(values)))
        if self.rescale or shift:
            attributes |= {"RescaleSlope": slope, "RescaleIntercept": intercept + shift}
        dataset = radiographs.dicom(
            stored,
            bits_stored=self.bits,
            PhotometricInterpretation=self.photometric,
            **attributes,
        )
        return radiographs.to_bytes(dataset)

    def _voi(self, low: float, span: float) -> dict[str, Any]:
        none = {"WindowCenter": None, "WindowWidth": None}
        if self.voi.startswith("LUT"):
            return {**none, "VOILUTSequence": [self._lut(low, span)]}
        if self.voi not in _WINDOWS:
            return none
        function, share = _WINDOWS[self.voi]
        return {
            "WindowCenter": round(low + 0.55 * span, 1),
            "WindowWidth": round(max(2.0, share * span), 1),
            "VOILUTFunction": function,
        }

    def _lut(self, low: float, span: float) -> Any:
        bits = int(self.voi.removeprefix("LUT "))
        count = max(2, min(30_000, int(0.6 * span)))
        first = int(low + 0.2 * span)
        first = int(np.clip(first, -32_768 if self.signed else 0, 32_767))
        curve = np.linspace(0, 1, count) ** 0.6 * (2**bits - 1)
        return radiographs.lut(first, curve.astype(int).tolist(), bits)


_WINDOWS = {
    "wide window": (None, 1.2),
    "narrow window": ("LINEAR", 0.05),
    "exact window": ("LINEAR_EXACT", 0.5),
    "sigmoid": ("SIGMOID", 0.5),
}
VOI = (*_WINDOWS, "none", "LUT 8", "LUT 12", "LUT 16")
BITS = (8, 10, 12, 14, 16)


def cases(*rescales: tuple[float, float] | None) -> Iterator[Case]:
    for bits, signed, photometric, rescale, voi in itertools.product(
        BITS, (False, True), _MONOCHROME, rescales, VOI
    ):
        yield Case(bits, signed, photometric, rescale, voi)


def rendered(data: bytes, found: Picture, path: Path) -> NDArray[np.int64]:
    path.write_bytes(data)
    expected = dcmtk.render(path, *dcmtk.same_voi(found))
    assert expected is not None
    return expected.astype(np.int64)


def test_what_can_be_written_looks_as_in_dcmtk(tmp_path: Path) -> None:
    written = list(cases(None, (-1.0, 4000.0), (3.0, -1000.0)))
    assert len(written) >= 200
    differing = {}
    for case in written:
        data = case.file()
        found = picture(data)
        expected = rendered(data, found, tmp_path / "case.dcm")
        difference = np.abs(found.pixels - expected).max()
        if difference > 1:
            differing[case] = int(difference)
    assert not differing


def test_fractions_after_the_modality_lut_are_kept(tmp_path: Path) -> None:
    """DCMTK rounds the values after the Modality LUT to integers; we do not.

    PS3.3 C.11.1.1.2 wants output units and no integers. So its grey must lie between
    those that we show of a value one less and of a value one more.
    """
    for case in cases((0.5, -100.25)):
        # DCMTK 3.6.7 shows the lowest of signed 8-bit values wrongly then.
        if case.bits == 8 and case.signed:
            continue
        data = case.file()
        found = picture(data)
        if found.voi == "percentile":
            continue
        expected = rendered(data, found, tmp_path / "case.dcm")
        around = [picture(case.file(shift)).pixels.astype(int) for shift in (-1, 0, 1)]
        assert (expected >= np.min(around, axis=0) - 1).all(), case
        assert (expected <= np.max(around, axis=0) + 1).all(), case


def test_a_modality_lut_looks_as_in_dcmtk(tmp_path: Path) -> None:
    for bits, photometric in itertools.product((8, 12, 16), _MONOCHROME):
        entries = (np.linspace(0, 1, 3000) ** 2 * (2**bits - 1)).astype(int).tolist()
        data = radiographs.to_bytes(
            radiographs.dicom(
                radiographs.gradient(64, 80),
                PhotometricInterpretation=photometric,
                ModalityLUTSequence=[radiographs.lut(500, entries, bits)],
                WindowCenter=2 ** (bits - 1),
                WindowWidth=2**bits,
            )
        )
        found = picture(data)
        assert found.steps[1].name == "Modality LUT Sequence"
        expected = rendered(data, found, tmp_path / "case.dcm")
        assert np.abs(found.pixels - expected).max() <= 1
