"""DICOM: sniff, header, pixels."""

from __future__ import annotations

import io
import logging
import warnings
from typing import BinaryIO

import numpy as np
import pydicom
import pydicom.config
from pydicom import uid
from pydicom.pixels.processing import convert_color_space

from beam_pipeline.errors import Failure, Rejected, Rejection, Unreadable
from beam_pipeline.images import attributes
from beam_pipeline.images.codecs import Layout, Stored
from beam_pipeline.images.codecs import decode as decode_pixels
from beam_pipeline.images.grayscale import render
from beam_pipeline.images.header import Header
from beam_pipeline.images.picture import Picture, luminance, measured

# pydicom's warnings and log lines quote values, which may be a patient's.
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

_PREFIX = b"DICM"
_SEXES = ("M", "F", "O")
# A dose grid has Rows, and is no picture of a patient.
_NO_PICTURE = (uid.MediaStorageDirectoryStorage, uid.RTDoseStorage)
# Their decoders have converted to RGB already.
# (implicit VR, little endian), as pydicom found them.
_BARE: dict[object, uid.UID] = {
    (False, True): uid.ExplicitVRLittleEndian,
    (False, False): uid.ExplicitVRBigEndian,
}
_CONVERTED = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
_HEADER_KEYWORDS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "PresentationIntentType",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsStored",
    "PatientAge",
    "PatientSex",
]
_PIXEL_KEYWORDS = [
    "PixelData",
    "FloatPixelData",
    "PhotometricInterpretation",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
]


def sniff(head: bytes) -> bool:
    """Whether the first bytes of a file are DICOM, with or without a preamble.

    PS3.10 7.1 wants 128 bytes and `DICM`. Files without begin with an element of group
    0002 or 0008: old exports, and files that a network peer wrote as it got them.
    """
    if head[128:132] == _PREFIX:
        return True
    bare = head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
    return bare and len(head) > 8 and b"1.2.840.10008." in head


def read_header(stream: BinaryIO) -> Header:
    """The facts in the attributes before Pixel Data.

    Raises:
        Unreadable: CORRUPT_HEADER, when the data set cannot be parsed.
    """
    dataset = _parse(stream, _HEADER_KEYWORDS, stop_before_pixels=True)
    meta = dataset.file_meta
    sop_class = attributes.uid(dataset, "SOPClassUID") or attributes.uid(
        meta, "MediaStorageSOPClassUID"
    )
    rows = attributes.whole(dataset, "Rows")
    sex = attributes.code(dataset, "PatientSex")
    if sop_class is None and rows is None:
        raise Unreadable(
            Failure.CORRUPT_HEADER, "neither SOP Class UID nor Rows can be read"
        )
    return Header(
        format="DICOM",
        has_pixels=rows is not None and sop_class not in _NO_PICTURE,
        study_instance_uid=attributes.uid(dataset, "StudyInstanceUID"),
        series_instance_uid=attributes.uid(dataset, "SeriesInstanceUID"),
        sop_instance_uid=attributes.uid(dataset, "SOPInstanceUID"),
        sop_class_uid=sop_class,
        modality=attributes.code(dataset, "Modality"),
        body_part=attributes.code(dataset, "BodyPartExamined"),
        view_position=attributes.code(dataset, "ViewPosition"),
        presentation_intent_type=attributes.code(dataset, "PresentationIntentType"),
        photometric_interpretation=attributes.code(
            dataset, "PhotometricInterpretation"
        ),
        transfer_syntax_uid=attributes.uid(meta, "TransferSyntaxUID"),
        number_of_frames=attributes.whole(dataset, "NumberOfFrames"),
        rows=rows,
        columns=attributes.whole(dataset, "Columns"),
        bits_stored=attributes.whole(dataset, "BitsStored"),
        patient_age_years=attributes.age_years(dataset),
        patient_sex=sex if sex in _SEXES else None,
    )


def decode(data: bytes, header: Header) -> Picture:
    """The upright picture of the only frame: Modality LUT, VOI, polarity, padding.

    Raises:
        Rejected: COLOR_IMAGE.
        Unreadable: MISSING_PHOTOMETRIC, NO_PIXEL_DATA, BAD_RESCALE, or why the pixels
            cannot be decoded.
    """
    dataset = _parse(io.BytesIO(data), _PIXEL_KEYWORDS, stop_before_pixels=False)
    photometric = header.photometric_interpretation
    if photometric is None:
        raise Unreadable(
            Failure.MISSING_PHOTOMETRIC,
            "without Photometric Interpretation black cannot be told from white",
        )
    if not dataset.get("PixelData"):
        raise Unreadable(Failure.NO_PIXEL_DATA, "it has no Pixel Data (7FE0,0010)")
    stored = decode_pixels(dataset.PixelData, _layout(dataset))
    if photometric in ("MONOCHROME1", "MONOCHROME2"):
        if stored.ndim != 2:
            raise Unreadable(
                Failure.UNSUPPORTED_PIXELS, f"{photometric} with 3 samples a pixel"
            )
        return render(stored, dataset)
    return _grey_of_colour(stored, photometric, dataset)


def _grey_of_colour(
    stored: Stored, photometric: str, dataset: pydicom.FileDataset
) -> Picture:
    if photometric == "PALETTE COLOR" or stored.ndim != 3:
        raise Rejected(
            Rejection.COLOR_IMAGE, f"Photometric Interpretation is {photometric}"
        )
    bits_stored = attributes.whole(dataset, "BitsStored") or 8 * stored.itemsize
    samples = (stored >> max(0, bits_stored - 8)).astype(np.uint8)
    converted = dataset.file_meta.TransferSyntaxUID in _CONVERTED
    if photometric == "YBR_FULL" and not converted:
        samples = convert_color_space(samples, "YBR_FULL", "RGB")
    pixels = luminance(samples)
    steps = (measured("stored values, colour", stored), measured("luminance", pixels))
    return Picture(pixels, steps=steps)


def _parse(
    stream: BinaryIO, keywords: list[str], *, stop_before_pixels: bool
) -> pydicom.FileDataset:
    try:
        dataset = pydicom.dcmread(
            stream,
            stop_before_pixels=stop_before_pixels,
            force=True,
            specific_tags=keywords,
        )
    except EOFError as error:
        raise Unreadable(
            Failure.PIXELDATA_TRUNCATED, "the file ends within its pixel data"
        ) from error
    # Hostile and broken files make pydicom raise nearly anything.
    except Exception as error:
        raise Unreadable(
            Failure.CORRUPT_HEADER,
            f"the data set cannot be parsed ({type(error).__name__})",
        ) from error
    if "TransferSyntaxUID" not in dataset.file_meta:
        # A data set that came without File Meta Information; PS3.5 10.1 has a default.
        dataset.file_meta.TransferSyntaxUID = _BARE.get(
            dataset.original_encoding, uid.ImplicitVRLittleEndian
        )
    return dataset


def _layout(dataset: pydicom.FileDataset) -> Layout:
    numbers = {
        keyword: attributes.whole(dataset, keyword)
        for keyword in ("Rows", "Columns", "BitsAllocated")
    }
    wrong = [keyword for keyword, number in numbers.items() if not number]
    if wrong:
        raise Unreadable(
            Failure.CORRUPT_HEADER, f"{', '.join(wrong)} absent, empty or 0"
        )
    syntax = attributes.uid(dataset.file_meta, "TransferSyntaxUID")
    if syntax is None:
        raise Unreadable(Failure.CORRUPT_HEADER, "Transfer Syntax UID is no UID")
    return Layout(
        transfer_syntax_uid=syntax,
        rows=numbers["Rows"] or 0,
        columns=numbers["Columns"] or 0,
        samples_per_pixel=attributes.whole(dataset, "SamplesPerPixel") or 1,
        bits_allocated=numbers["BitsAllocated"] or 0,
        planar_configuration=attributes.whole(dataset, "PlanarConfiguration") or 0,
    )
