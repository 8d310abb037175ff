"""What the fuzzer starts from: small real files, and made ones in every encoding."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pydicom.data
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from beam_pipeline.doctor import ENCODERS

# Stands in every value that may be a patient's; no row may repeat it.
CANARY = b"CANARY"
_PERSONAL = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
# What is worth finding where pydicom does not tell the place: in items of sequences, or
# because it has looked at the value itself.
_SOUGHT = {"LUTDescriptor": "US", "LUTData": "US", "TransferSyntaxUID": "UI"}
_LARGEST = 64_000
_DEFLATED = uid.DeflatedExplicitVRLittleEndian
_UNCOMPRESSED = (uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, _DEFLATED)


@dataclass(frozen=True)
class Element:
    """Where an element is in its file.

    Attributes:
        keyword: of the dictionary; empty for a private one.
        vr: its VR; None where the file does not say.
        length_at: where its length stands, in `length_bytes` bytes.
        start: where its value begins.
        length: of the value as it stands there.
        little: whether numbers are little endian.
    """

    keyword: str
    vr: str | None
    length_at: int
    length_bytes: int
    start: int
    length: int
    little: bool

    @property
    def end(self) -> int:
        """Where its value ends; its beginning where the length is undefined."""
        return self.start + (0 if self.length == 2**32 - 1 else self.length)


@dataclass(frozen=True)
class Seed:
    """A file to change, and the elements in it."""

    name: str
    data: bytes
    elements: tuple[Element, ...] = ()


def seeds() -> list[Seed]:
    """All of them, in the same order everywhere; those that can be scored twice."""
    return [*_real(), *2 * [*_made_dicom(), *_made_rasters()]]


def _real() -> Iterator[Seed]:
    folders = (
        Path(pydicom.data.__file__).parent / "test_files",
        Path(data_store.__file__).parent / "data",
    )
    paths = (path for folder in folders for path in folder.rglob("*.dcm"))
    for path in sorted(paths, key=lambda path: (path.name, str(path))):
        if 0 < path.stat().st_size <= _LARGEST:
            yield seed(path.name, path.read_bytes())


def seed(name: str, data: bytes) -> Seed:
    """`data` with canaries in place of what may be a patient's, and its elements."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        raw = [*_raw(dataset.file_meta), *_raw(dataset)]
    # Some of the test files are broken on purpose.
    except Exception:
        return Seed(name, data)
    if dataset.file_meta.get("TransferSyntaxUID") == _DEFLATED:
        # The places are those in the inflated data set.
        return Seed(name, data)
    elements = [_element(each) for each in raw]
    elements += [found for keyword in _SOUGHT for found in _found(data, keyword)]
    changed = bytearray(data)
    for element in elements:
        if _vr(element) in _PERSONAL and element.length >= len(CANARY):
            times = element.length // len(CANARY) + 1
            changed[element.start : element.end] = (CANARY * times)[: element.length]
    return Seed(name, bytes(changed), tuple(elements))


def _raw(dataset: Dataset) -> Iterator[RawDataElement]:
    for found in dataset._dict.values():
        if isinstance(found, RawDataElement):
            yield found


def _element(raw: RawDataElement) -> Element:
    wide = raw.is_implicit_VR or raw.VR in EXPLICIT_VR_LENGTH_32
    size = 4 if wide else 2
    return Element(
        keyword=pydicom.datadict.keyword_for_tag(raw.tag),
        vr=None if raw.is_implicit_VR else raw.VR,
        length_at=raw.value_tell - size,
        length_bytes=size,
        start=raw.value_tell,
        length=raw.length,
        little=raw.is_little_endian,
    )


def _found(data: bytes, keyword: str) -> Iterator[Element]:
    """Elements of explicit VR and little endian, by their bytes."""
    tag, vr = Tag(keyword), _SOUGHT[keyword]
    key = struct.pack("<HH", tag.group, tag.element) + vr.encode()
    at = data.find(key)
    while at >= 0:
        (length,) = struct.unpack_from("<H", data, at + 6)
        yield Element(keyword, vr, at + 6, 2, at + 8, length, True)
        at = data.find(key, at + 8)


def _vr(element: Element) -> str | None:
    if element.vr or not element.keyword:
        return element.vr
    return dictionary_VR(element.keyword)


def _gradient(bits: int) -> NDArray[np.uint16]:
    ramp = np.add.outer(np.arange(72), 2 * np.arange(64))
    noise = np.random.default_rng(0).integers(0, 4, ramp.shape)
    return ((ramp + noise) * (2**bits - 1) // (ramp.max() + 4)).astype(np.uint16)


def _made_dicom() -> Iterator[Seed]:
    for syntax in (*ENCODERS, *_UNCOMPRESSED):
        for with_luts in (False, True):
            name = f"made {syntax}{' with LUTs' * with_luts}"
            yield seed(name, _dicom(uid.UID(syntax), with_luts=with_luts))


def _dicom(syntax: uid.UID, *, with_luts: bool) -> bytes:
    eight = syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
    pixels = _gradient(8).astype(np.uint8) if eight else _gradient(12)
    dataset = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=bytes(128))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    for keyword, value in _attributes(pixels).items():
        setattr(dataset, keyword, value)
    if with_luts:
        for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
            item = Dataset()
            item.LUTDescriptor = [64, 0, 16]
            item.add_new("LUTData", "US", [1000 * n for n in range(64)])
            setattr(dataset, keyword, [item])
    if syntax in ENCODERS:
        dataset.PixelData = encapsulate([bytes(ENCODERS[syntax](pixels))])
        dataset["PixelData"].VR = "OB"
    else:
        order = "<" if syntax.is_little_endian else ">"
        dataset.add_new("PixelData", "OW", pixels.astype(f"{order}u2").tobytes())
    dataset.set_original_encoding(False, syntax.is_little_endian)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _attributes(pixels: NDArray[np.generic]) -> dict[str, object]:
    bits = 8 if pixels.itemsize == 1 else 12
    return {
        "SOPClassUID": uid.ComputedRadiographyImageStorage,
        "SOPInstanceUID": "1.2.3",
        "StudyInstanceUID": "1.2.4",
        "Modality": "CR",
        "PatientName": "CANARY^CANARY",
        "PatientID": "CANARY-4711",
        "PatientAge": "004Y",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "NumberOfFrames": 1,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "PixelAspectRatio": [1, 1],
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelPaddingValue": 0,
        "PixelPaddingRangeLimit": 3,
        "WindowCenter": 2 ** (bits - 1),
        "WindowWidth": 2**bits,
        "RescaleIntercept": 0,
        "RescaleSlope": 1,
        "VOILUTFunction": "LINEAR",
        "ShutterShape": ["RECTANGULAR", "POLYGONAL", "CIRCULAR"],
        "ShutterLeftVerticalEdge": 2,
        "ShutterRightVerticalEdge": 60,
        "ShutterUpperHorizontalEdge": 2,
        "ShutterLowerHorizontalEdge": 70,
        "CenterOfCircularShutter": [36, 32],
        "RadiusOfCircularShutter": 40,
        "VerticesOfThePolygonalShutter": [1, 1, 1, 64, 72, 64, 72, 1],
    }


def _made_rasters() -> Iterator[Seed]:
    grey = Image.fromarray(_gradient(8).astype(np.uint8))
    wide = Image.fromarray(_gradient(16))
    pictures = [grey.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    for picture in (*pictures, wide):
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        yield Seed(f"made {picture.mode}.png", stream.getvalue())
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            stream = io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 6
            grey.convert(mode).save(stream, "JPEG", progressive=progressive, exif=exif)
            yield Seed(f"made {mode} {progressive}.jpg", stream.getvalue())
