"""DICOM: sniff, header, pixels."""

from __future__ import annotations

import io
import math
from typing import BinaryIO

import numpy as np
from pydicom import uid
from pydicom.dataset import FileDataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space

from beam_pipeline.errors import (
    Failure,
    Flag,
    NotScored,
    Rejected,
    Rejection,
    Unreadable,
)
from beam_pipeline.images import (
    anatomy,
    attributes,
    codecs,
    reduced,
    shutter,
    terms,
)
from beam_pipeline.images.codecs import Layout, Stored
from beam_pipeline.images.grayscale import render, render_reduced
from beam_pipeline.images.header import Asked, Header
from beam_pipeline.images.parse import parse
from beam_pipeline.images.picture import Picture, luminance, measured
from beam_pipeline.images.stored import OVERLAY_BITS
from beam_pipeline.limits import Limits
from beam_pipeline.manifest import Rendering

_PREFIX = b"DICM"
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
# A dose grid has Rows, and is no picture of a patient.
_NO_PICTURE = (uid.MediaStorageDirectoryStorage, uid.RTDoseStorage)
# Their decoders give RGB, whatever the Photometric Interpretation says.
_CONVERTED: frozenset[str] = frozenset(codecs.DECODERS) - {uid.RLELossless}
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
# (vertical, horizontal): PS3.3 C.7.6.3.1.7, 10.7.1.3, C.8.11.4, C.8.6.2.
_SPACINGS = (
    "PixelAspectRatio",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
)
_HEADER_KEYWORDS = (
    "SOPClassUID",
    *_UIDS,
    "Modality",
    *anatomy.KEYWORDS,
    "PresentationIntentType",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    *_SPACINGS,
    "BitsStored",
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "ContentDate",
    "PatientSex",
    "LossyImageCompressionRatio",
)
_PIXEL_KEYWORDS: tuple[str | int, ...] = (
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
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
    *shutter.KEYWORDS,
    *OVERLAY_BITS,
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)


def sniff(head: bytes) -> bool:
    """Whether the first bytes of a file are DICOM, with or without a preamble.

    PS3.10 7.1 wants 128 bytes and `DICM`. Files without begin with an element of group
    0002 or 0008: old exports, and files that a network peer wrote as it got them.
    """
    if head[128:132] == _PREFIX:
        return True
    bare = head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
    return bare and len(head) > 8 and b"1.2.840.10008." in head


def read_header(stream: BinaryIO, asked: Asked, limits: Limits) -> Header:
    """The facts in the attributes before Pixel Data.

    Raises:
        Unreadable: CORRUPT_HEADER, when the data set cannot be parsed, or TOO_LARGE.
    """
    keywords = {*_HEADER_KEYWORDS, *asked.keywords}
    dataset = parse(stream, keywords, limits, pixels=False)
    meta = dataset.file_meta
    sop_class = attributes.uid(dataset, "SOPClassUID") or attributes.uid(
        meta, "MediaStorageSOPClassUID"
    )
    rows = attributes.whole(dataset, "Rows")
    if sop_class is None and rows is None:
        raise Unreadable(
            Failure.CORRUPT_HEADER, "neither SOP Class UID nor Rows can be read"
        )
    body_part = anatomy.body_part(dataset)
    view, view_source = anatomy.view(dataset)
    modality = attributes.text(dataset, "Modality")
    photometric = attributes.text(dataset, "PhotometricInterpretation")
    intent = attributes.text(dataset, "PresentationIntentType")
    sex = attributes.text(dataset, "PatientSex")
    aspect, bad_aspect = _pixel_aspect(dataset)
    return Header(
        format="DICOM",
        has_pixels=_has_pixels(rows, sop_class),
        study_instance_uid=attributes.uid(dataset, "StudyInstanceUID"),
        series_instance_uid=attributes.uid(dataset, "SeriesInstanceUID"),
        sop_instance_uid=attributes.uid(dataset, "SOPInstanceUID"),
        sop_class_uid=sop_class,
        modality=terms.known(modality, terms.MODALITIES | asked.terms),
        body_part=terms.worded(body_part, asked.terms),
        view_position=terms.worded(view, asked.terms),
        view_source=view_source,
        presentation_intent_type=terms.known(intent, terms.PRESENTATION_INTENTS),
        photometric_interpretation=terms.known(
            photometric, terms.PHOTOMETRIC_INTERPRETATIONS
        ),
        transfer_syntax_uid=attributes.uid(meta, "TransferSyntaxUID"),
        number_of_frames=attributes.whole(dataset, "NumberOfFrames"),
        rows=rows,
        columns=attributes.whole(dataset, "Columns"),
        pixel_aspect=aspect,
        bits_stored=attributes.whole(dataset, "BitsStored"),
        patient_age_years=attributes.age_years(dataset),
        patient_sex=sex if sex in terms.SEXES else None,
        lossy_image_compression_ratio=_lossy_ratio(dataset),
        flags=bad_aspect + _invalid_uid(dataset),
        attributes={
            keyword: attributes.texts(dataset, keyword) for keyword in asked.keywords
        },
    )


def _has_pixels(rows: int | None, sop_class: str | None) -> bool:
    if sop_class in _NO_PICTURE:
        return False
    # An image class without Rows is a broken image, and no report.
    return rows is not None or "Image Storage" in uid.UID(sop_class or "").name


def _pixel_aspect(dataset: FileDataset) -> tuple[float, tuple[Flag, ...]]:
    """Height over width of a pixel; 1, and a flag, where what stands there is none.

    An image of square pixels need not say so (PS3.3 C.7.6.3): then there is no flag.
    """
    flags: tuple[Flag, ...] = ()
    for keyword in _SPACINGS:
        sizes = attributes.numbers(dataset, keyword)
        if len(sizes) == 2 and all(math.isfinite(s) and s > 0 for s in sizes):
            return sizes[0] / sizes[1], flags
        if sizes:
            flags = (Flag.BAD_PIXEL_ASPECT,)
    return 1.0, flags


def _lossy_ratio(dataset: FileDataset) -> float | None:
    ratios = attributes.numbers(dataset, "LossyImageCompressionRatio")
    return ratios[-1] if ratios and math.isfinite(ratios[-1]) else None


def _invalid_uid(dataset: FileDataset) -> tuple[Flag, ...]:
    invalid = (
        attributes.text(dataset, keyword) and not attributes.uid(dataset, keyword)
        for keyword in _UIDS
    )
    return (Flag.INVALID_UID,) if any(invalid) else ()


def decode(
    data: bytes, header: Header, rendering: Rendering, limits: Limits, halvings: int
) -> Picture:
    """The upright picture of the first frame: Modality LUT, VOI, polarity, padding.

    Raises:
        Rejected: COLOR_IMAGE or CONSTANT_IMAGE.
        Unreadable: MISSING_PHOTOMETRIC, NO_PIXEL_DATA, BAD_RESCALE, or why the pixels
            cannot be decoded.
    """
    dataset = parse(io.BytesIO(data), _PIXEL_KEYWORDS, limits, pixels=True)
    pixel_data, vr = attributes.binary(dataset, "PixelData")
    if not pixel_data:
        raise _without_pixels(dataset, header)
    photometric = header.photometric_interpretation
    if photometric is None:
        raise Unreadable(
            Failure.MISSING_PHOTOMETRIC,
            "without Photometric Interpretation black cannot be told from white",
        )
    layout = _layout(dataset, photometric, max(1, header.number_of_frames or 1))
    pixel_data = _in_order(pixel_data, vr, layout)
    if halvings and (
        picture := _reduced(pixel_data, layout, dataset, rendering.voi, halvings)
    ):
        return picture
    stored = codecs.decode(pixel_data, layout)
    flags = _excess(pixel_data, layout)
    if photometric in _MONOCHROME:
        if stored.ndim != 2:
            raise Unreadable(
                Failure.UNSUPPORTED_PIXELS, f"{photometric} with 3 samples a pixel"
            )
        return render(stored, dataset, rendering.voi).flagged(*flags)
    return _grey_of_colour(stored, layout, dataset).flagged(*flags)


def _reduced(
    pixel_data: bytes, layout: Layout, dataset: FileDataset, voi: str, halvings: int
) -> Picture | None:
    """The picture at a fraction of its size; None where only the whole tells."""
    if layout.photometric_interpretation not in _MONOCHROME:
        return None
    try:
        found = reduced.decode(pixel_data, layout, halvings)
        return render_reduced(found, dataset, voi) if found else None
    # What rules a file out is said of the whole of it.
    except NotScored:
        return None


def _in_order(pixel_data: bytes, vr: str | None, layout: Layout) -> bytes:
    """Pixel data whose 8-bit pixels stand one after the other."""
    swapped = (
        layout.transfer_syntax_uid == uid.ExplicitVRBigEndian
        and layout.bits_allocated == 8
        and vr == "OW"
    )
    # PS3.5 8.1.2: in words, two 8-bit pixels change places in big endian.
    return _swapped(pixel_data) if swapped else pixel_data


def _without_pixels(dataset: FileDataset, header: Header) -> Unreadable:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        detail = "Float Pixel Data: a map, and no radiograph"
        return Unreadable(Failure.UNSUPPORTED_PIXELS, detail)
    # pydicom gives nothing of a data set that ends within encapsulated pixel data.
    if header.rows is not None and "Rows" not in dataset:
        detail = "the file ends within its pixel data"
        return Unreadable(Failure.PIXELDATA_TRUNCATED, detail)
    return Unreadable(Failure.NO_PIXEL_DATA, "it has no Pixel Data (7FE0,0010)")


def _swapped(pixel_data: bytes) -> bytes:
    even = pixel_data + b"\0" * (len(pixel_data) % 2)
    return np.frombuffer(even, np.uint16).byteswap().tobytes()


def _excess(pixel_data: bytes, layout: Layout) -> tuple[Flag, ...]:
    """A flag where there is more than the frame and its padding to an even length."""
    native = layout.transfer_syntax_uid in codecs.NATIVE
    excess = len(pixel_data) > layout.native_bytes + layout.native_bytes % 2
    return (Flag.EXCESS_PIXEL_DATA,) if native and excess else ()


def _grey_of_colour(stored: Stored, layout: Layout, dataset: FileDataset) -> Picture:
    photometric = layout.photometric_interpretation
    if photometric == "PALETTE COLOR":
        stored = _looked_up(stored, dataset)
    if stored.ndim != 3:
        raise Unreadable(
            Failure.UNSUPPORTED_PIXELS, f"{photometric} with 1 sample a pixel"
        )
    bits = layout.bits_stored
    if photometric == "PALETTE COLOR":
        # Palettes of 16-bit words that hold 8-bit entries are as common as others.
        bits = 16 if stored.max() > 255 else 8
    samples = (stored >> max(0, bits - 8)).astype(np.uint8)
    converted = layout.transfer_syntax_uid in _CONVERTED
    if photometric.startswith("YBR_FULL") and not converted:
        samples = convert_color_space(samples, "YBR_FULL", "RGB")
    pixels = luminance(samples)
    steps = (measured("stored values, colour", stored), measured("luminance", pixels))
    return Picture(pixels, steps=steps)


def _looked_up(stored: Stored, dataset: FileDataset) -> Stored:
    try:
        found: Stored = apply_color_lut(stored, dataset)
        return found
    except MemoryError:
        raise
    # A palette that is absent or not as long as it says: ValueError, AttributeError …
    except Exception as error:
        raise Rejected(
            Rejection.COLOR_IMAGE,
            f"a palette that cannot be used ({type(error).__name__})",
        ) from error


def _bits_stored(dataset: FileDataset) -> int:
    """Bits Stored; where it makes no sense, `render` will say so."""
    stored = attributes.whole(dataset, "BitsStored") or 16
    return stored if 1 <= stored <= 16 else 16


def _layout(dataset: FileDataset, photometric: str, frames: int) -> Layout:
    numbers = {
        keyword: attributes.whole(dataset, keyword)
        for keyword in ("Rows", "Columns", "BitsAllocated")
    }
    wrong = [keyword for keyword, number in numbers.items() if (number or 0) < 1]
    if wrong:
        raise Unreadable(
            Failure.CORRUPT_HEADER, f"{', '.join(wrong)} absent, empty or 0"
        )
    return Layout(
        transfer_syntax_uid=attributes.uid(dataset.file_meta, "TransferSyntaxUID")
        or "",
        rows=numbers["Rows"] or 0,
        columns=numbers["Columns"] or 0,
        samples_per_pixel=attributes.whole(dataset, "SamplesPerPixel") or 1,
        bits_allocated=numbers["BitsAllocated"] or 0,
        bits_stored=_bits_stored(dataset),
        planar_configuration=attributes.whole(dataset, "PlanarConfiguration") or 0,
        photometric_interpretation=photometric,
        number_of_frames=frames,
    )
