"""May this model score this radiograph? A list of rules over a file's header.

`RULES` is the whole list, in the order in which they are asked: to add one, write a
function and name it there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydicom.uid import UID, DigitalXRayImageStorageForProcessing

from beam_pipeline.errors import Flag, Rejected, Rejection
from beam_pipeline.images.header import Header
from beam_pipeline.manifest import Eligibility

# PS3.3 C.8.11.5.1.1 (DX Positioning) and what consoles write besides.
_LATERAL = frozenset({"LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "L LAT", "R LAT"})


@dataclass(frozen=True)
class Verdict:
    """What one rule says of one file.

    Attributes:
        rule: the rule's name.
        finding: why the file is refused or flagged; None where the rule is met.
        detail: what was found, and what was expected.
    """

    rule: str
    finding: Rejection | Flag | None
    detail: str


Rule = Callable[[Header, Eligibility], Verdict]


def check(header: Header, eligibility: Eligibility) -> tuple[Verdict, ...]:
    """The verdict of every rule, in order."""
    return tuple(rule(header, eligibility) for rule in RULES)


def require(verdicts: tuple[Verdict, ...]) -> tuple[Flag, ...]:
    """The flags among the verdicts.

    Raises:
        Rejected: for the first rule that refuses the file.
    """
    for verdict in verdicts:
        if isinstance(verdict.finding, Rejection):
            raise Rejected(verdict.finding, verdict.detail)
    return tuple(v.finding for v in verdicts if isinstance(v.finding, Flag))


def is_image(header: Header, eligibility: Eligibility) -> Verdict:
    """Reports, plans, waveforms and directories have no pixels, and need none."""
    if header.has_pixels or header.sop_class_uid in eligibility.sop_classes:
        return Verdict("is_image", None, "has pixels")
    name = UID(header.sop_class_uid or "").name or "no SOP class"
    return Verdict("is_image", Rejection.NON_IMAGE, f"{name} has no pixels")


def sop_class(header: Header, eligibility: Eligibility) -> Verdict:
    """SOP Class UID (0008,0016) is one that the model was made for."""
    if header.format != "DICOM" or header.sop_class_uid in eligibility.sop_classes:
        return Verdict("sop_class", None, _name(header.sop_class_uid))
    accepted = ", ".join(_name(uid) for uid in eligibility.sop_classes)
    found = _name(header.sop_class_uid)
    detail = f"{found} is none of: {accepted}"
    return Verdict("sop_class", Rejection.UNSUPPORTED_SOP_CLASS, detail)


def modality(header: Header, eligibility: Eligibility) -> Verdict:
    """Modality (0008,0060), where it is stated."""
    accepted = eligibility.modalities
    return _stated(
        "modality",
        header.modality,
        accepted,
        Rejection.WRONG_MODALITY,
        Flag.MODALITY_UNKNOWN,
    )


def presentation_intent(header: Header, eligibility: Eligibility) -> Verdict:
    """For Processing images are raw; their For Presentation twins are what to score."""
    raw = (
        header.presentation_intent_type == "FOR PROCESSING"
        or header.sop_class_uid == DigitalXRayImageStorageForProcessing
    )
    if raw:
        detail = "a For Processing image; score its For Presentation twin"
        return Verdict("presentation_intent", Rejection.FOR_PROCESSING, detail)
    said = header.presentation_intent_type or "not stated"
    return Verdict("presentation_intent", None, said)


def single_frame(header: Header, eligibility: Eligibility) -> Verdict:
    """Number of Frames (0028,0008) is 1 or absent."""
    frames = header.number_of_frames
    if frames is not None and frames > 1:
        return Verdict("single_frame", Rejection.MULTIFRAME, f"{frames} frames")
    return Verdict("single_frame", None, "1 frame")


def body_part(header: Header, eligibility: Eligibility) -> Verdict:
    """Body Part Examined (0018,0015), where it is stated."""
    return _stated(
        "body_part",
        header.body_part,
        eligibility.body_parts,
        Rejection.BODY_PART,
        Flag.BODY_PART_UNKNOWN,
    )


def view(header: Header, eligibility: Eligibility) -> Verdict:
    """View Position (0018,5101), where it is stated."""
    refusal = Rejection.UNSUPPORTED_VIEW
    if header.view_position in _LATERAL:
        refusal = Rejection.LATERAL_VIEW
    return _stated(
        "view", header.view_position, eligibility.views, refusal, Flag.VIEW_UNKNOWN
    )


RULES: tuple[Rule, ...] = (
    is_image,
    presentation_intent,
    sop_class,
    modality,
    single_frame,
    body_part,
    view,
)


def _stated(
    rule: str,
    value: str | None,
    accepted: tuple[str, ...],
    refusal: Rejection,
    unknown: Flag,
) -> Verdict:
    if value is None:
        return Verdict(rule, unknown, "not stated")
    if value in accepted:
        return Verdict(rule, None, value)
    return Verdict(rule, refusal, f"{value} is none of: {', '.join(accepted)}")


def _name(uid: str | None) -> str:
    return UID(uid).name if uid else "not stated"
