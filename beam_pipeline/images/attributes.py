"""DICOM attributes as files have them: absent, empty, or not of their VR.

Nothing here raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import MutableSequence
from datetime import date
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
# What a column holds; no attribute that is read here may be larger.
_LARGEST = 2**31 - 1
_AGE = re.compile(r"(\d{1,4})\s*([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
# Ages over 89 identify (45 CFR 164.514(b)(2)(i)(C)): one figure stands for all of them.
_OLDEST = 90.0
_DATE = re.compile(r"(\d{4})[.:-]?(\d{2})[.:-]?(\d{2})")
_EXAMINED = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


def values(dataset: Dataset, keyword: str) -> list[Any]:
    """The values of an attribute; none where it is absent, empty or malformed."""
    # pydicom converts on access, and a value that is not of its VR raises anything.
    try:
        element = dataset.get(_tag(keyword))
        found = None if element is None else element.value
        # A PersonName has a length too, that of its text.
        several = isinstance(found, MutableSequence)
        return [v for v in (found if several else [found]) if v is not None and v != ""]
    except Exception:
        return []


# Looking a keyword up costs as much as reading the element.
@lru_cache(maxsize=256)
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def value(dataset: Dataset, keyword: str) -> Any:
    """The first value of an attribute; None where there is none."""
    return next(iter(values(dataset, keyword)), None)


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """The values as text, in upper case, as they come: they may hold anything."""
    found = (_written(each).upper() for each in values(dataset, keyword))
    return tuple(text for text in found if text)


def text(dataset: Dataset, keyword: str) -> str:
    """The first value as text, in upper case; empty where there is none."""
    return next(iter(texts(dataset, keyword)), "")


def whole(dataset: Dataset, keyword: str) -> int | None:
    """An integer."""
    found = number(dataset, keyword)
    if found is None or not math.isfinite(found) or found != int(found):
        return None
    return int(found) if abs(found) <= _LARGEST else None


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Numbers, each in its place; NaN for one that is no number.

    A decimal comma is read as a point: consoles of half the world write one.
    """
    try:
        element: Any = dataset.get_item(_tag(keyword))
    except Exception:
        return []
    parts: list[Any] = []
    # Integer VRs are binary; pydicom gives their values.
    if not isinstance(element, RawDataElement) or not _is_text(element):
        parts = values(dataset, keyword)
    elif element.value and element.value.strip(b"\0 "):
        parts = element.value.decode("ascii", "replace").split("\\")
    return [_number(part) for part in parts]


def number(dataset: Dataset, keyword: str) -> float | None:
    """The first number, which may be infinite, or NaN where it is no number."""
    return next(iter(numbers(dataset, keyword)), None)


def binary(dataset: Dataset, keyword: str) -> tuple[bytes, str | None]:
    """The bytes of an attribute as they stand there, and the VR that the file says.

    Empty where it is absent, or a sequence. They are not converted: a VR that is wrong
    would make text or numbers of them.
    """
    try:
        element: Any = dataset.get_item(_tag(keyword))
    except Exception:
        return b"", None
    data = getattr(element, "value", None)
    return (data, element.VR) if isinstance(data, bytes) else (b"", None)


def uid(dataset: Dataset, keyword: str) -> str | None:
    """A UID (PS3.5 9.1)."""
    found = text(dataset, keyword)
    return found if len(found) <= 64 and _UID.fullmatch(found) else None


def age_years(dataset: Dataset) -> float | None:
    """Patient's Age (0010,1010), nnnD, nnnW, nnnM or nnnY, else since the birth date.

    Leading zeros may be missing, as some consoles leave them out. In years, at most 90,
    which stands for all higher ages. Reckoned from dates it is in completed years,
    below two in completed months.
    """
    match = _AGE.fullmatch(text(dataset, "PatientAge"))
    age = int(match[1]) * _YEARS[match[2]] if match else _age_at_examination(dataset)
    return None if age is None else min(age, _OLDEST)


def _age_at_examination(dataset: Dataset) -> float | None:
    born = _date(dataset, "PatientBirthDate")
    dates = (_date(dataset, keyword) for keyword in _EXAMINED)
    examined = next((found for found in dates if found), None)
    if born is None or examined is None or examined < born:
        return None
    # Days would tell the birth date to who knows the study's. PS3.5 6.2 has months too.
    months = (examined.year - born.year) * 12 + examined.month - born.month
    months -= examined.day < born.day
    return float(months // 12) if months >= 24 else months / 12


def _date(dataset: Dataset, keyword: str) -> date | None:
    match = _DATE.match(text(dataset, keyword))
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def _is_text(element: RawDataElement) -> bool:
    # With an implicit VR the file does not say; the dictionary does.
    return (element.VR or dictionary_VR(element.tag)) in ("DS", "IS")


def _written(part: Any) -> str:
    # An item of a sequence that stands in place of a value is no text.
    return "" if isinstance(part, Dataset) else str(part).strip("\0 ")


def _number(part: Any) -> float:
    written = _written(part)
    if "," in written and "." not in written:
        written = written.replace(",", ".")
    try:
        return float(written) if written else math.nan
    except ValueError:
        return math.nan
