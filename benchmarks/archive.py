"""Build an archive of N studies from radiographs at their original size.

    python benchmarks/archive.py ../shared/data/chest_xray_full archive 200

Each radiograph is widened to 12 bits, with noise in the bits that an 8-bit JPEG cannot
have had, so that lossless codecs meet what a detector gives them; and wrapped in turn
as uncompressed, JPEG 2000, JPEG-LS, JPEG Lossless and baseline JPEG DICOM, and as PNG.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmwrite, uid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from beam_pipeline.doctor import ENCODERS

PNG = "PNG"
ENCODINGS = (
    uid.ExplicitVRLittleEndian,
    uid.JPEG2000Lossless,
    uid.JPEGLSLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGBaseline8Bit,
    PNG,
)
# Of equal length, so that a file's UID can be replaced in its bytes.
_UID_ROOT = "1.2.826.0.1.3680043.8.498.1"
_UID_DIGITS = 8


@dataclass(frozen=True)
class Encoded:
    """One radiograph in one encoding, as a file whose UIDs can be replaced."""

    data: bytes
    suffix: str


def build(source: Path, archive: Path, studies: int) -> None:
    """Write `studies` distinct files to `archive`, all encodings in equal parts."""
    archive.mkdir(parents=True)
    radiographs = sorted(source.rglob("*.jpeg"))
    if not radiographs:
        sys.exit(f"{source} holds no .jpeg radiographs")
    # Each encoding walks through all radiographs; each pair is encoded once.
    count = min(studies, len(radiographs) * len(ENCODINGS))
    kinds = len(ENCODINGS)
    tasks = [
        (radiographs[i // kinds % len(radiographs)], ENCODINGS[i % kinds], i)
        for i in range(count)
    ]
    with Pool() as pool:
        encoded = pool.starmap(encode, tasks, chunksize=8)
    for number in range(studies):
        file = encoded[number % count]
        data = file.data.replace(_number(0), _number(number))
        (archive / f"{number:06}{file.suffix}").write_bytes(data)


def encode(radiograph: Path, encoding: str, seed: int) -> Encoded:
    """One radiograph as a DICOM or PNG file."""
    with Image.open(radiograph) as image:
        picture = np.asarray(image.convert("L"))
    if encoding == PNG:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG")
        return Encoded(stream.getvalue(), ".png")
    return Encoded(_dicom(picture, encoding, seed), ".dcm")


def _dicom(picture: NDArray[np.uint8], syntax: str, seed: int) -> bytes:
    pixels: NDArray[np.generic] = picture
    if syntax != uid.JPEGBaseline8Bit:
        noise = np.random.default_rng(seed).integers(0, 16, picture.shape)
        pixels = (picture.astype(np.uint16) * 16 + noise).astype(np.uint16)
    inverted = seed // len(ENCODINGS) % 2 == 1
    if inverted:
        pixels = (255 if pixels.itemsize == 1 else 4095) - pixels
    dataset = _header(pixels, syntax)
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    if syntax == uid.ExplicitVRLittleEndian:
        dataset.add_new("PixelData", "OW", pixels.tobytes())
    else:
        dataset.add_new(
            "PixelData", "OB", encapsulate([bytes(ENCODERS[syntax](pixels))])
        )
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _header(pixels: NDArray[np.generic], syntax: str) -> FileDataset:
    bits = 8 if pixels.itemsize == 1 else 12
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.UID(syntax)
    meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = _number(0).decode()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": _number(0).decode(),
        "StudyInstanceUID": _number(0).decode() + ".1",
        "Modality": "DX",
        "PresentationIntentType": "FOR PRESENTATION",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "SamplesPerPixel": 1,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "WindowCenter": 2 ** (bits - 1),
        "WindowWidth": 2**bits,
    }.items():
        setattr(dataset, keyword, value)
    return dataset


def _number(number: int) -> bytes:
    return f"{_UID_ROOT}{number:0{_UID_DIGITS}}".encode()


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
