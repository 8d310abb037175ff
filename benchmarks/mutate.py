"""Changes to files: of bytes that mean nothing to it, and of DICOM elements."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

from pydicom import uid

from beam_pipeline.images import codecs, terms
from benchmarks.seeds import Element, Seed

_LENGTHS = (0, 1, 2, 7, 255, 65534, 65535, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
_NUMBERS = (0, 1, 2, 3, 7, 8, 9, 11, 12, 15, 16, 17, 31, 32, 64, 72, 255, 256, 4096)
_LARGE = (32767, 32768, 65534, 65535)
_TEXTS = (
    *(b"", b" ", b"\0", b"0", b"1", b"-1", b"0.5", b"1,5", b"1e308", b"-1e308"),
    *(b"1e-320", b"nan", b"inf", b"-inf", b"1\\2\\3", b"\\", b"\\\\", b"0\\0"),
    *(b"99999999999999999999", b"CANARY^CANARY", b"\xff\xfe", b"\x1b$B", b"1" * 300),
    *(b"000Y", b"999D", b"00000000", b"99999999", b"LINEAR", b"SIGMOID", b"DERIVED"),
)
_VRS = (
    "AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC "
    "UI UL UN UR US UT UV ZZ"
)
_PHOTOMETRIC = (*sorted(terms.PHOTOMETRIC_INTERPRETATIONS), "CANARY", "")
_SYNTAXES = (
    *sorted(codecs.DECODERS),
    *sorted(codecs.NATIVE),
    uid.MPEG2MPML,
    uid.JPIPHTJ2KReferenced,
    "1.2.3",
    "CANARY",
)
# What decoding depends on is changed as often as all the rest.
_KEYWORDS = (
    "Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation "
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames "
    "LUTDescriptor LUTData RedPaletteColorLookupTableDescriptor WindowCenter "
    "WindowWidth VOILUTFunction RescaleSlope RescaleIntercept TransferSyntaxUID "
    "PixelPaddingValue PixelPaddingRangeLimit PixelData ShutterShape "
    "VerticesOfThePolygonalShutter PixelAspectRatio"
)
_TELLING = frozenset(_KEYWORDS.split())


def mutated(seeds: Sequence[Seed], random: Random) -> bytes:
    """One of `seeds` with one to four changes."""
    seed = random.choice(seeds)
    data = seed.data
    if seed.elements and random.random() < 0.6:
        data = _change_elements(seed, random)
        if random.random() < 0.7:
            return data
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(_BLIND)(data, random, seeds)
    return data


def _change_elements(seed: Seed, random: Random) -> bytes:
    telling = [each for each in seed.elements if each.keyword in _TELLING]
    pool = telling if telling and random.random() < 0.7 else seed.elements
    chosen = {random.choice(pool) for _ in range(random.choice((1, 1, 2, 3)))}
    data = seed.data
    # From the end, so that the places of the others stay true.
    for element in sorted(chosen, key=lambda each: each.start, reverse=True):
        change = random.choice((_value, _value, _value, _length, _vr))
        data = change(data, element, random)
    return data


def _value(data: bytes, element: Element, random: Random) -> bytes:
    """Another value, with the length that belongs to it."""
    value = _new_value(element, data, random)
    padding = b"\0" if element.keyword.endswith("UID") else b" "
    value += padding * (len(value) % 2)
    order = "<" if element.little else ">"
    length = struct.pack(
        f"{order}{'H' if element.length_bytes == 2 else 'I'}", len(value)
    )
    return data[: element.length_at] + length + value + data[max(element.end, 0) :]


def _new_value(element: Element, data: bytes, random: Random) -> bytes:
    if element.keyword == "PhotometricInterpretation":
        return random.choice(_PHOTOMETRIC).encode()
    if element.keyword == "TransferSyntaxUID":
        return random.choice(_SYNTAXES).encode()
    if element.keyword == "PixelData" or random.random() < 0.1:
        value = data[element.start : element.end]
        return random.choice((value[: len(value) // 2], value * 2, value[2:], b""))
    is_binary = element.length in (2, 6) and element.keyword in _TELLING
    if element.vr in ("US", "SS") or (element.vr is None and is_binary):
        order = "<" if element.little else ">"
        count = random.choice((element.length // 2, 1, 2, 3))
        numbers = [
            random.choice(random.choice((_NUMBERS, _LARGE))) for _ in range(count)
        ]
        return struct.pack(f"{order}{count}H", *numbers)
    return random.choice(_TEXTS)


def _length(data: bytes, element: Element, random: Random) -> bytes:
    """Another length, and the value that was there."""
    near = [max(0, element.length + step) for step in (-2, -1, 1, 2)]
    size = element.length_bytes
    length = random.choice((*_LENGTHS, *near)) % 2 ** (8 * size)
    written = length.to_bytes(size, "little" if element.little else "big")
    return data[: element.length_at] + written + data[element.start :]


def _vr(data: bytes, element: Element, random: Random) -> bytes:
    """Another VR, where the file says one: two reserved bytes follow that of some."""
    if element.vr is None:
        return _length(data, element, random)
    at = element.length_at - (4 if element.length_bytes == 4 else 2)
    return data[:at] + random.choice(_VRS.split()).encode() + data[at + 2 :]


def _flip(data: bytes, random: Random, _: Sequence[Seed]) -> bytes:
    changed = bytearray(data)
    # Headers are small and pixels are many: half of the changes near the beginning.
    within = len(changed) if random.random() < 0.5 else min(len(changed), 2000)
    for _ in range(random.choice((1, 2, 4, 16, 64)) if within else 0):
        position = random.randrange(within)
        changed[position] = random.choice(
            (
                changed[position] ^ 1 << random.randrange(8),
                0,
                255,
                random.randrange(256),
            )
        )
    return bytes(changed)


def _span(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 2, 4, 8, 100, 1000)))


def _delete(data: bytes, random: Random, _: Sequence[Seed]) -> bytes:
    start, end = _span(data, random)
    return data[:start] + data[end:]


def _duplicate(data: bytes, random: Random, _: Sequence[Seed]) -> bytes:
    start, end = _span(data, random)
    return data[:start] + data[start:end] * random.choice((2, 3, 50)) + data[end:]


def _truncate(data: bytes, random: Random, _: Sequence[Seed]) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _splice(data: bytes, random: Random, seeds: Sequence[Seed]) -> bytes:
    other = random.choice(seeds).data
    return (
        data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other)) :]
    )


_Change = Callable[[bytes, Random, Sequence[Seed]], bytes]
_BLIND: tuple[_Change, ...] = (
    _flip,
    _flip,
    _flip,
    _delete,
    _duplicate,
    _truncate,
    _splice,
)
