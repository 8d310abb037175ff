"""A DICOM file → the attributes that were asked for, and no others."""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import BinaryIO

import pydicom
import pydicom.config
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag, Tag

from beam_pipeline.errors import Failure, Unreadable
from beam_pipeline.images import attributes
from beam_pipeline.limits import Limits

# pydicom's warnings and log lines quote values, which may be a patient's.
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

# (implicit VR, little endian), as pydicom found them.
_BARE: dict[object, uid.UID] = {
    (False, True): uid.ExplicitVRLittleEndian,
    (False, False): uid.ExplicitVRBigEndian,
}
_DEFLATED = uid.DeflatedExplicitVRLittleEndian.encode()
# File Meta Information comes first; a deflated file names its transfer syntax there.
_META_BYTES = 4096
# Deflate makes at most 1,032 bytes of one, so 64 KiB grow to no more than 66 MiB.
_PIECE_BYTES = 65536


def parse(
    stream: BinaryIO, keywords: Iterable[str | int], limits: Limits, *, pixels: bool
) -> FileDataset:
    """The attributes of `keywords` in a file, with or without preamble.

    Args:
        stream: the file from its beginning.
        keywords: DICOM keywords, or tags of elements that have none.
        limits: how far a deflated data set may grow.
        pixels: whether to read on to Pixel Data.

    Raises:
        Unreadable: CORRUPT_HEADER, PIXELDATA_TRUNCATED or TOO_LARGE.
    """
    tags = list(_tags(frozenset(keywords)))
    try:
        dataset = _inflated(stream, tags, limits, pixels=pixels) or pydicom.dcmread(
            stream, stop_before_pixels=not pixels, force=True, specific_tags=tags
        )
    except (Unreadable, MemoryError):
        raise
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
    if attributes.uid(dataset.file_meta, "TransferSyntaxUID") is None:
        # A data set that came without File Meta Information; PS3.5 10.1 has a default.
        syntax = _BARE.get(dataset.original_encoding, uid.ImplicitVRLittleEndian)
        # Anew: the element that stands there may have a VR that takes no UID.
        dataset.file_meta.add_new("TransferSyntaxUID", "UI", syntax)
    return dataset


# A job asks for the same of each of its files.
@lru_cache(maxsize=8)
def _tags(keywords: frozenset[str | int]) -> tuple[BaseTag, ...]:
    return tuple(Tag(keyword) for keyword in keywords)


def _inflated(
    stream: BinaryIO, tags: list[BaseTag], limits: Limits, *, pixels: bool
) -> FileDataset | None:
    """The attributes of a deflated data set (PS3.5 A.5); None where it is none.

    pydicom would inflate it whatever its size: some 250 KB make 256 MB.
    """
    is_deflated = _DEFLATED in stream.read(_META_BYTES)
    stream.seek(0)
    if not is_deflated:
        return None
    preamble = read_preamble(stream, force=True)
    meta = FileMetaDataset(
        read_dataset(stream, False, True, stop_when=lambda tag, vr, n: tag.group != 2)
    )
    if attributes.text(meta, "TransferSyntaxUID").encode() != _DEFLATED:
        stream.seek(0)
        return None
    data = io.BytesIO()
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof and (piece := stream.read(_PIECE_BYTES)):
        data.write(inflater.decompress(piece))
        limits.check_inflated(data.tell())
    data.seek(0)
    stop = None if pixels else (lambda tag, vr, n: tag == 0x7FE00010)
    dataset: Dataset = read_dataset(
        data, False, True, stop_when=stop, specific_tags=[*tags]
    )
    return FileDataset(
        "",
        dataset,
        preamble,
        meta,
        is_implicit_VR=False,
        is_little_endian=True,
    )
