"""A short run of the fuzzer, and what longer ones found."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.errors import Failure, Rejected, Rejection, Unreadable
from beam_pipeline.images.eligibility import Rules
from beam_pipeline.limits import Limits
from beam_pipeline.read import Reading
from beam_pipeline.records import Outcome, Ready, Source
from benchmarks.fuzz import Fuzzer
from benchmarks.seeds import seeds
from tests import hostile, radiographs

LIMITS = Limits(seconds=5.0)


@pytest.mark.timeout(120)
def test_every_changed_file_ends_as_a_row(tmp_path: Path) -> None:
    figures = Fuzzer(0, LIMITS, tmp_path / "kept").run(0, 400)
    assert figures.problems == {}
    assert figures.inputs == figures.endings.total() == 400
    # They get as far as the model, the decoders and the rules.
    assert figures.endings["READY"] > 10
    assert figures.endings["ERROR DECODE_ERROR"] > 10
    assert len(figures.endings) > 10


def test_the_same_seed_gives_the_same_inputs() -> None:
    first, again, other = Fuzzer(1, LIMITS), Fuzzer(1, LIMITS), Fuzzer(2, LIMITS)
    numbers = range(50)
    inputs = [first.input(number) for number in numbers]
    assert inputs == [again.input(number) for number in reversed(numbers)][::-1]
    assert inputs != [other.input(number) for number in numbers]
    assert len(set(inputs)) > 45


def test_every_seed_with_a_header_has_elements_and_no_patient() -> None:
    made = [seed for seed in seeds() if seed.name.startswith("made 1.2.")]
    with_elements = [seed for seed in made if seed.elements]
    assert len(with_elements) == len(made) - 4 > 20
    for seed in with_elements:
        found = {element.keyword for element in seed.elements}
        assert {"Rows", "WindowCenter", "PixelData", "TransferSyntaxUID"} <= found
        assert ("LUTDescriptor" in found) == (
            "LUTs" in seed.name and "1.2.840.10008.1.2.2 " not in seed.name
        )


@pytest.mark.parametrize(
    ("outcome", "wrong"),
    [
        (Unreadable(Failure.INTERNAL_ERROR, "KeyError in x.py:1"), "INTERNAL_ERROR"),
        (Unreadable(Failure.DECODE_ERROR, "of Canary^Patient"), "a patient's"),
        (Rejected("INVENTED", "not a reason"), "INVENTED"),
        (Rejected(Rejection.BODY_PART, ""), "BODY_PART"),
        (Rejected(Rejection.BODY_PART, "body_part HAND"), None),
        (Unreadable(Failure.DECODER_CRASHED, "signal 11"), None),
    ],
)
def test_the_fuzzer_tells_what_is_wrong(
    outcome: Rejected | Unreadable, wrong: str | None
) -> None:
    ended = Outcome.of(Source("input")).ended(outcome)
    found = Fuzzer(0, LIMITS)._problem(ended, 0.1, 1)
    assert found is None if wrong is None else wrong in (found or "")


def test_the_fuzzer_measures_time_and_memory() -> None:
    ended = Outcome.of(Source("")).ended(Rejected(Rejection.BODY_PART, "HAND"))
    fuzzer = Fuzzer(0, LIMITS)
    assert fuzzer._problem(ended, 1.0, 2**27) is None
    assert "bytes" in (fuzzer._problem(ended, 1.0, 2**30) or "")
    assert "60.0 s" in (fuzzer._problem(ended, 60.0, 2**27) or "")
    assert "None" in (fuzzer._problem(Outcome.of(Source("")), 1.0, 2**27) or "")


def read(data: bytes, path: Path) -> Ready | Outcome:
    path.write_bytes(data)
    reading = Reading(preparation=radiographs.PREPARATION, rules=Rules(()))
    return list(reading(Source(str(path))))[-1]


@pytest.mark.parametrize("vr", ["UT", "ZZ", "UN", "SQ", "PN"])
def test_pixel_data_of_another_vr_is_no_defect(vr: str, tmp_path: Path) -> None:
    data = bytearray(radiographs.to_bytes(hostile.dicom()))
    at = hostile.pixel_data_at(bytes(data)) + 4
    data[at : at + 2] = vr.encode()
    found = read(bytes(data), tmp_path / "x.dcm")
    assert isinstance(found, Ready) or found.reason != "INTERNAL_ERROR"


@pytest.mark.parametrize("vr", ["AT", "DS", "SQ", "UT", "ZZ"])
def test_a_transfer_syntax_of_another_vr_is_no_defect(vr: str, tmp_path: Path) -> None:
    data = radiographs.to_bytes(hostile.dicom())
    syntax = b"\x02\x00\x10\x00"
    assert syntax + b"UI" in data
    found = read(data.replace(syntax + b"UI", syntax + vr.encode()), tmp_path / "x.dcm")
    assert isinstance(found, Ready) or found.reason != "INTERNAL_ERROR"


def test_a_sequence_in_place_of_a_number_is_none(tmp_path: Path) -> None:
    data = radiographs.to_bytes(hostile.dicom())
    rows = b"\x28\x00\x10\x00US\x02\x00" + struct.pack("<H", hostile.ROWS)
    assert rows in data
    odd = b"\x28\x00\x03\x01US\x03\x00" + b"abc"
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(odd)) + odd
    sequence = b"\x28\x00\x10\x00SQ\0\0" + struct.pack("<I", len(item)) + item
    found = read(data.replace(rows, sequence), tmp_path / "x.dcm")
    assert isinstance(found, Outcome)
    assert (found.reason, found.rows) == ("CORRUPT_HEADER", None)


@pytest.mark.parametrize("columns", [70, 71])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_shared_chroma_where_there_can_be_none_is_no_defect(
    columns: int, samples: int, bits: int, tmp_path: Path
) -> None:
    shape = (80, columns) if samples == 1 else (80, columns, samples)
    pixels = np.zeros(shape, f"u{bits // 8}")
    pixels[:40] = 200
    data = radiographs.to_bytes(
        radiographs.dicom(pixels, PhotometricInterpretation="YBR_FULL_422")
    )
    found = read(data, tmp_path / "a.dcm")
    assert isinstance(found, Ready) or found.reason != Failure.INTERNAL_ERROR
