"""DICOM attributes as files have them: absent, empty, or not of their VR.

Nothing here raises, and nothing here gives free text back: what stands where a code or
a UID should be may be a patient's name.
"""

from __future__ import annotations

import re
from typing import Any

from pydicom.dataset import Dataset

NOT_A_CODE = "NOT_A_CODE"

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
# What a column holds; no attribute that is read here may be larger.
_LARGEST = 2**31 - 1
# Codes that consoles write in lower case; other text that is no code may be a name.
_FAMILIAR = frozenset(
    {"CHEST", "THORAX", "LUNG", "LUNGS", "AP", "PA", "LL", "RL", "LATERAL", "CR", "DX"}
)
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")
_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def values(dataset: Dataset, keyword: str) -> list[Any]:
    """The values of an attribute; none where it is absent, empty or malformed."""
    # pydicom converts on access, and a value that is not of its VR raises anything.
    try:
        found = dataset.get(keyword)
        several = not isinstance(found, str | bytes) and hasattr(found, "__len__")
        return [v for v in (found if several else [found]) if v is not None and v != ""]
    except Exception:
        return []


def value(dataset: Dataset, keyword: str) -> Any:
    """The first value of an attribute; None where there is none."""
    return next(iter(values(dataset, keyword)), None)


def whole(dataset: Dataset, keyword: str) -> int | None:
    """An integer."""
    found = value(dataset, keyword)
    if not isinstance(found, int) or abs(found) > _LARGEST:
        return None
    return int(found)


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Numbers, which may be infinite or NaN; none where one of them is no number."""
    try:
        return [float(found) for found in values(dataset, keyword)]
    except (TypeError, ValueError):
        return []


def number(dataset: Dataset, keyword: str) -> float | None:
    """The first number, which may be infinite or NaN."""
    return next(iter(numbers(dataset, keyword)), None)


def uid(dataset: Dataset, keyword: str) -> str | None:
    """A UID (PS3.5 9.1)."""
    text = _text(dataset, keyword)
    return text if len(text) <= 64 and _UID.fullmatch(text) else None


def code(dataset: Dataset, keyword: str) -> str | None:
    """A Code String (PS3.5 6.2) in upper case; NOT_A_CODE for any other text."""
    text = _text(dataset, keyword)
    if not text:
        return None
    if text.upper() in _FAMILIAR:
        return text.upper()
    return text if _CODE_STRING.fullmatch(text) else NOT_A_CODE


def age_years(dataset: Dataset) -> float | None:
    """Patient's Age (0010,1010) in years: nnnD, nnnW, nnnM or nnnY."""
    match = _AGE.fullmatch(_text(dataset, "PatientAge"))
    return int(match[1]) * _YEARS[match[2]] if match else None


def _text(dataset: Dataset, keyword: str) -> str:
    found = value(dataset, keyword)
    return "" if found is None else str(found).strip("\0 ")
