from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from beam_pipeline.doctor import ENCODERS
from beam_pipeline.images import codestream
from beam_pipeline.images.codestream import Declared
from tests import radiographs

PICTURE = radiographs.gradient(90, 70).astype(np.uint16)
WAVELETS = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2K)
JPEGS = (uid.JPEGExtended12Bit, uid.JPEGLosslessSV1, uid.JPEGLSLossless)


@pytest.mark.parametrize("syntax", [*WAVELETS, *JPEGS])
def test_a_codestream_declares_its_size(syntax: str) -> None:
    frame = bytes(ENCODERS[syntax](PICTURE))
    assert codestream.declared(frame) == Declared(rows=90, columns=70, samples=1)


def test_colour_declares_three_samples() -> None:
    frame = bytes(imagecodecs.jpeg8_encode(np.zeros((32, 48, 3), np.uint8)))
    assert codestream.declared(frame) == Declared(rows=32, columns=48, samples=3)


def test_fill_bytes_may_stand_before_a_marker() -> None:
    frame = bytes(imagecodecs.jpeg8_encode(np.zeros((32, 48), np.uint8)))
    at = frame.index(b"\xff\xdb")
    filled = frame[:at] + b"\xff\xff" + frame[at:]
    assert codestream.declared(filled) == codestream.declared(frame)


@pytest.mark.parametrize(
    "frame", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"RLE", b"\0" * 99]
)
def test_what_is_none_declares_nothing(frame: bytes) -> None:
    assert codestream.declared(frame) is None
    assert not codestream.lacks_tiles(frame)


@pytest.mark.parametrize("syntax", WAVELETS)
def test_a_cut_wavelet_lacks_tiles_even_with_an_end_marker(syntax: str) -> None:
    frame = bytes(ENCODERS[syntax](PICTURE))
    assert not codestream.lacks_tiles(frame)
    assert not codestream.lacks_tiles(frame + b"\0")
    for share in (0.9, 0.5, 0.2):
        cut = frame[: int(share * len(frame))]
        assert codestream.lacks_tiles(cut)
        assert codestream.lacks_tiles(cut + b"\xff\xd9")


def test_every_tile_is_looked_for() -> None:
    stream = io.BytesIO()
    picture = Image.fromarray((PICTURE >> 4).astype(np.uint8))
    picture.save(stream, "JPEG2000", tile_size=(32, 32), no_jp2=True)
    frame = stream.getvalue()
    assert frame.count(b"\xff\x90\x00\x0a") == 9
    assert not codestream.lacks_tiles(frame)
    last = frame.rindex(b"\xff\x90\x00\x0a")
    assert codestream.lacks_tiles(frame[:last] + b"\xff\xd9")


@pytest.mark.parametrize("syntax", WAVELETS)
def test_a_wavelet_says_how_it_can_be_halved(syntax: str) -> None:
    found = codestream.wavelet(bytes(ENCODERS[syntax](PICTURE)))
    assert found.levels >= 3
    assert not found.signed
    assert found.reversible == (syntax not in (uid.JPEG2000, uid.HTJ2K))
    assert found.precision == (16 if syntax == uid.HTJ2K else 12)


def test_signed_samples_are_told() -> None:
    frame = imagecodecs.jpeg2k_encode(
        PICTURE.astype(np.int16), codecformat="j2k", bitspersample=13, resolutions=3
    )
    found = codestream.wavelet(bytes(frame))
    assert (found.signed, found.precision, found.levels) == (True, 13, 2)


def test_boxes_have_no_levels() -> None:
    frame = bytes(imagecodecs.jpeg2k_encode(PICTURE, codecformat="jp2"))
    with pytest.raises(ValueError, match="marker"):
        codestream.wavelet(frame)


def test_only_a_jpeg_of_frequencies_has_blocks() -> None:
    assert codestream.has_blocks(bytes(imagecodecs.jpeg8_encode(PICTURE >> 4)))
    for frame in (
        bytes(imagecodecs.jpeg8_encode(PICTURE, lossless=True)),
        bytes(imagecodecs.jpegls_encode(PICTURE)),
        bytes(ENCODERS[uid.JPEG2000Lossless](PICTURE)),
        b"",
    ):
        assert not codestream.has_blocks(frame)


def test_components_of_their_own_cannot_be_halved() -> None:
    colour = np.zeros((64, 64, 3), np.uint8)
    frame = bytes(imagecodecs.jpeg2k_encode(colour, codecformat="j2k"))
    assert codestream.wavelet(frame).levels == 0
    # One whose grid begins elsewhere.
    frame = bytearray(ENCODERS[uid.JPEG2000Lossless](PICTURE))
    frame[19] = 1
    assert codestream.wavelet(bytes(frame)).levels == 0
