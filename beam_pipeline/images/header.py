"""What a file says of itself, without its pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Header:
    """The facts that the eligibility rules and the output columns need.

    Names are DICOM keywords in snake case. None means that the file does not say, which
    for PNG and JPEG is nearly everything. Free text and identifiers of the patient are
    not kept.
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
    presentation_intent_type: str | None = None
    photometric_interpretation: str | None = None
    transfer_syntax_uid: str | None = None
    number_of_frames: int | None = None
    rows: int | None = None
    columns: int | None = None
    bits_stored: int | None = None
    patient_age_years: float | None = None
    patient_sex: str | None = None
