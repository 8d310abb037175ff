"""DICOM attributes as files have them: absent, empty, or not of their VR.

Nothing here raises, and nothing here gives free text back: what stands where a code or
a UID should be may be a patient's name.
"""

from __future__ import annotations

import re
from typing import Any

from pydicom.dataset import Dataset

NOT_A_CODE = "NOT_A_CODE"

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")
_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def value(dataset: Dataset, keyword: str) -> Any:
    """The first value of an attribute; None where it is absent, empty or malformed."""
    # pydicom converts on access, and a value that is not of its VR raises anything.
    try:
        found = dataset.get(keyword)
        if not isinstance(found, str | bytes) and hasattr(found, "__len__"):
            found = found[0] if len(found) else None
    except Exception:
        return None
    return None if found is None or found == "" else found


def whole(dataset: Dataset, keyword: str) -> int | None:
    """An integer."""
    found = value(dataset, keyword)
    return int(found) if isinstance(found, int) else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """A number, which may be infinite or NaN."""
    found = value(dataset, keyword)
    try:
        return None if found is None else float(found)
    except (TypeError, ValueError):
        return None


def uid(dataset: Dataset, keyword: str) -> str | None:
    """A UID (PS3.5 9.1)."""
    text = _text(dataset, keyword)
    return text if len(text) <= 64 and _UID.fullmatch(text) else None


def code(dataset: Dataset, keyword: str) -> str | None:
    """A Code String (PS3.5 6.2) in upper case; NOT_A_CODE for any other text."""
    text = _text(dataset, keyword).upper()
    if not text:
        return None
    return text if _CODE_STRING.fullmatch(text) else NOT_A_CODE


def age_years(dataset: Dataset) -> float | None:
    """Patient's Age (0010,1010) in years: nnnD, nnnW, nnnM or nnnY."""
    match = _AGE.fullmatch(_text(dataset, "PatientAge"))
    return int(match[1]) * _YEARS[match[2]] if match else None


def _text(dataset: Dataset, keyword: str) -> str:
    found = value(dataset, keyword)
    return "" if found is None else str(found).strip("\0 ")
