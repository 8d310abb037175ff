"""Why a file has no score.

    NotScored
    ├── Rejected     a rule says that this model must not score it    → REJECTED
    └── Unreadable   it could not be read, decoded or scored          → ERROR

Every other exception is a defect of this program.

Each carries a reason code and a detail in our own words. A detail never quotes free
text from a file: it may hold a patient's data.
"""

from __future__ import annotations

from enum import StrEnum


class Rejection(StrEnum):
    """Reasons of a file that was understood and must not be scored."""

    NON_IMAGE = "NON_IMAGE"
    UNSUPPORTED_SOP_CLASS = "UNSUPPORTED_SOP_CLASS"
    WRONG_MODALITY = "WRONG_MODALITY"
    FOR_PROCESSING = "FOR_PROCESSING"
    MULTIFRAME = "MULTIFRAME"
    LATERAL_VIEW = "LATERAL_VIEW"
    UNSUPPORTED_VIEW = "UNSUPPORTED_VIEW"
    BODY_PART = "BODY_PART"
    COLOR_IMAGE = "COLOR_IMAGE"
    BILEVEL_IMAGE = "BILEVEL_IMAGE"
    CONSTANT_IMAGE = "CONSTANT_IMAGE"
    BAD_SIZE = "BAD_SIZE"
    AGE_OUT_OF_SCOPE = "AGE_OUT_OF_SCOPE"
    ARCHIVE = "ARCHIVE"


class Failure(StrEnum):
    """Reasons of a file that could not be read, decoded or scored."""

    READ_FAILED = "READ_FAILED"
    STILL_CHANGING = "STILL_CHANGING"
    EMPTY_FILE = "EMPTY_FILE"
    UNRECOGNISED = "UNRECOGNISED"
    CORRUPT_HEADER = "CORRUPT_HEADER"
    MISSING_PHOTOMETRIC = "MISSING_PHOTOMETRIC"
    NO_PIXEL_DATA = "NO_PIXEL_DATA"
    PIXELDATA_TRUNCATED = "PIXELDATA_TRUNCATED"
    UNSUPPORTED_TRANSFER_SYNTAX = "UNSUPPORTED_TRANSFER_SYNTAX"
    UNSUPPORTED_PIXELS = "UNSUPPORTED_PIXELS"
    BAD_RESCALE = "BAD_RESCALE"
    DECODE_ERROR = "DECODE_ERROR"
    TOO_LARGE = "TOO_LARGE"
    TIMEOUT = "TIMEOUT"
    DECODER_CRASHED = "DECODER_CRASHED"
    MODEL_ERROR = "MODEL_ERROR"
    NAN_SCORE = "NAN_SCORE"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class Flag(StrEnum):
    """What a reader of a score should know about the image behind it."""

    BODY_PART_UNKNOWN = "BODY_PART_UNKNOWN"
    VIEW_UNKNOWN = "VIEW_UNKNOWN"
    MODALITY_UNKNOWN = "MODALITY_UNKNOWN"
    MODALITY_CONFLICT = "MODALITY_CONFLICT"
    AGE_UNKNOWN = "AGE_UNKNOWN"
    INVALID_UID = "INVALID_UID"
    UNUSUAL_ORIENTATION = "UNUSUAL_ORIENTATION"
    BURNED_IN_ANNOTATION = "BURNED_IN_ANNOTATION"
    PI_PLUT_CONFLICT = "PI_PLUT_CONFLICT"
    BAD_PIXEL_ASPECT = "BAD_PIXEL_ASPECT"
    BAD_PADDING = "BAD_PADDING"
    BAD_WINDOW = "BAD_WINDOW"
    BAD_VOI_LUT = "BAD_VOI_LUT"
    BAD_MODALITY_LUT = "BAD_MODALITY_LUT"
    VOI_FUNCTION_UNKNOWN = "VOI_FUNCTION_UNKNOWN"
    VOI_PERCENTILE = "VOI_PERCENTILE"
    UNUSED_BITS_SET = "UNUSED_BITS_SET"
    EXCESS_PIXEL_DATA = "EXCESS_PIXEL_DATA"
    PNG_LOW_RANGE = "PNG_LOW_RANGE"
    SUSPECT_INVERTED = "SUSPECT_INVERTED"
    UNLIKE_TRAINING = "UNLIKE_TRAINING"
    DUPLICATE = "DUPLICATE"
    UID_CONFLICT = "UID_CONFLICT"


# What only the pixels tell; all others are found again in the header.
PICTURE_FLAGS = frozenset(
    {
        Flag.BAD_PADDING,
        Flag.BAD_WINDOW,
        Flag.BAD_VOI_LUT,
        Flag.BAD_MODALITY_LUT,
        Flag.VOI_FUNCTION_UNKNOWN,
        Flag.VOI_PERCENTILE,
        Flag.UNUSED_BITS_SET,
        Flag.EXCESS_PIXEL_DATA,
        Flag.PNG_LOW_RANGE,
        Flag.SUSPECT_INVERTED,
    }
)


class StudyReason(StrEnum):
    """Why a study has no score."""

    NO_ELIGIBLE_IMAGE = "NO_ELIGIBLE_IMAGE"


class NotScored(Exception):
    """A file that ends without a score, for `reason`, explained by `detail`.

    The reason is one of the enumerations above, or a code of a site's own rules.
    """

    reason: str
    detail: str


class Rejected(NotScored):
    """A rule says that this model must not score the file."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unreadable(NotScored):
    """The file could not be read, decoded or scored."""

    def __init__(self, reason: Failure, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
