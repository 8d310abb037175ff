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


class Failure(StrEnum):
    """Reasons of a file that could not be read, decoded or scored."""

    READ_FAILED = "READ_FAILED"
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
    MODEL_ERROR = "MODEL_ERROR"
    NAN_SCORE = "NAN_SCORE"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class Flag(StrEnum):
    """What a reader of a score should know about the image behind it."""

    BODY_PART_UNKNOWN = "BODY_PART_UNKNOWN"
    VIEW_UNKNOWN = "VIEW_UNKNOWN"
    MODALITY_UNKNOWN = "MODALITY_UNKNOWN"
    BAD_WINDOW = "BAD_WINDOW"
    BAD_VOI_LUT = "BAD_VOI_LUT"
    BAD_MODALITY_LUT = "BAD_MODALITY_LUT"
    VOI_PERCENTILE = "VOI_PERCENTILE"
    PNG_LOW_RANGE = "PNG_LOW_RANGE"
    UNLIKE_TRAINING = "UNLIKE_TRAINING"


class NotScored(Exception):
    """A file that ends without a score, for `reason`, explained by `detail`."""

    reason: Rejection | Failure
    detail: str


class Rejected(NotScored):
    """A rule says that this model must not score the file."""

    def __init__(self, reason: Rejection, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unreadable(NotScored):
    """The file could not be read, decoded or scored."""

    def __init__(self, reason: Failure, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
