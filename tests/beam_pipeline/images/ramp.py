"""One ramp of stored values, written as DICOM in every way that changes its greys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import radiographs

# VOI LUT Function, and the width as a share of the values.
WINDOWS = {
    "wide window": (None, 1.2),
    "narrow window": ("LINEAR", 0.02),
    "exact window": ("LINEAR_EXACT", 0.5),
    "narrow exact window": ("LINEAR_EXACT", 0.02),
    "sigmoid": ("SIGMOID", 0.5),
    "narrow sigmoid": ("SIGMOID", 0.05),
}
LUTS = ("LUT 8", "LUT 12", "LUT 16")
BITS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class Ramp:
    """One way to write the same ramp; a modality of None has no Modality LUT."""

    bits: int
    signed: bool
    photometric: str
    modality: tuple[float, float] | str | None
    voi: str
    shape: tuple[int, int] = (64, 80)

    @property
    def transformation(self) -> str:
        """The VOI transformation that has to be taken."""
        if self.voi in LUTS:
            return "lut"
        return "window" if self.voi in WINDOWS else "percentile"

    def stored(self) -> NDArray[Any]:
        ramp = radiographs.gradient(*self.shape, self.bits).astype(np.int32)
        lowest = 2 ** (self.bits - 1) if self.signed else 0
        size = "8" if self.bits == 8 else "16"
        return (ramp - lowest).astype(f"{'' if self.signed else 'u'}int{size}")

    def values(self) -> NDArray[np.float64]:
        """What a rescale makes of the stored values."""
        rescale = isinstance(self.modality, tuple)
        slope, intercept = self.modality if rescale else (1.0, 0.0)
        return self.stored() * slope + intercept

    def file(self) -> bytes:
        attributes = self._modality() | self.presentation()
        dataset = radiographs.dicom(self.stored(), bits_stored=self.bits, **attributes)
        return radiographs.to_bytes(dataset)

    def presentation(self) -> dict[str, Any]:
        """The attributes that follow the Modality LUT."""
        values = self.values()
        low, span = float(values.min()), float(np.ptp(values))
        if self.modality == "LUT":
            low, span = 0.0, 65535.0
        return {
            "PhotometricInterpretation": self.photometric,
            **self._voi(low, span),
        }

    def _modality(self) -> dict[str, Any]:
        if isinstance(self.modality, tuple):
            slope, intercept = self.modality
            return {"RescaleSlope": slope, "RescaleIntercept": intercept}
        if self.modality is None:
            return {}
        values = self.values()
        first, span = int(values.min()), int(np.ptp(values))
        return {"ModalityLUTSequence": [self._lut(first + span // 10, span, 16)]}

    def _voi(self, low: float, span: float) -> dict[str, Any]:
        if self.voi in LUTS:
            first = np.clip(low + 0.55 * span, -32768, 32767 if low < 0 else 65535)
            bits = int(self.voi.removeprefix("LUT "))
            # And a window, the default one, which the LUT has to win over.
            return {"VOILUTSequence": [self._lut(int(first), span, bits)]}
        if self.voi not in WINDOWS:
            return {"WindowCenter": None, "WindowWidth": None}
        function, share = WINDOWS[self.voi]
        return {
            "WindowCenter": round(low + 0.55 * span, 1),
            "WindowWidth": round(max(2.0, share * span), 1),
            "VOILUTFunction": function,
        }

    def _lut(self, first: int, span: float, bits: int) -> Any:
        count = max(2, min(30_000, int(0.4 * span)))
        curve = np.linspace(0, 1, count) ** 0.6 * (2**bits - 1)
        item = radiographs.lut(0, curve.astype(int).tolist(), bits)
        # SS is right for a negative one; of unsigned pixels, most write US even then.
        signed = first < 0 and self.signed
        descriptor = [count, first if signed else first & 0xFFFF, bits]
        item.add_new("LUTDescriptor", "SS" if signed else "US", descriptor)
        return item
