"""What a file says of itself, without its pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Asked:
    """What a reader of headers wants to know besides the columns.

    Attributes:
        keywords: DICOM keywords whose text goes into `Header.attributes`.
        terms: codes that may be repeated although no standard has them.
    """

    keywords: frozenset[str] = frozenset()
    terms: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Header:
    """The facts that the eligibility rules and the output columns need.

    Names are DICOM keywords in snake case. None means that the file does not say, which
    for PNG and JPEG is nearly everything.

    Attributes:
        view_source: the attribute that told the view.
        pixel_aspect: height of a pixel over its width.
        lossy_image_compression_ratio: (0028,2112), that of the last compression.
        stated: codes in upper case as they stand there, by column, where a row must not
            repeat them.
        attributes: what was asked for, in upper case. It may hold a patient's data and
            never goes into a row, a detail or a log.
    """

    format: str
    has_pixels: bool = True
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    sop_class_uid: str | None = None
    modality: str | None = None
    body_part: str | None = None
    view_position: str | None = None
    view_source: str | None = None
    presentation_intent_type: str | None = None
    photometric_interpretation: str | None = None
    transfer_syntax_uid: str | None = None
    number_of_frames: int | None = None
    rows: int | None = None
    columns: int | None = None
    pixel_aspect: float = 1.0
    bits_stored: int | None = None
    patient_age_years: float | None = None
    patient_sex: str | None = None
    lossy_image_compression_ratio: float | None = None
    flags: tuple[str, ...] = ()
    stated: Mapping[str, str] = field(default_factory=dict, repr=False)
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @property
    def patient_age_completed_years(self) -> int | None:
        """The age as people say it: five years old until the sixth birthday."""
        age = self.patient_age_years
        return None if age is None else math.floor(age)

    @property
    def aspect_ratio(self) -> float | None:
        """The longer side over the shorter one, in length rather than pixels."""
        if not self.rows or not self.columns:
            return None
        ratio = self.rows * self.pixel_aspect / self.columns
        return max(ratio, 1 / ratio)

    def values(self, attribute: str) -> tuple[Any, ...]:
        """What `attribute`, a name of this class or a DICOM keyword, holds."""
        if attribute in self.attributes:
            return self.attributes[attribute]
        found = self.stated.get(attribute) or getattr(self, attribute, None)
        return () if found is None else (found,)
