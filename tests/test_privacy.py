"""Nothing that the job writes holds what a header or a file name says of a patient.

Every attribute of the DICOM dictionary that can hold text gets a mark of its own: that
is the Basic Application Level Confidentiality Profile (PS3.15 E.1-1) and much more.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from tests import radiographs

CANARY = "CANARY"
BORN = "19031207"
FOREIGN_UID = "1.2.777777"
MARKS = re.compile(rf"{CANARY}|{BORN}|{FOREIGN_UID}", re.IGNORECASE)

# What a file needs to be read at all; the rest is free.
KEPT = frozenset(
    {
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "Modality",
        "BodyPartExamined",
        "ViewPosition",
        "PhotometricInterpretation",
        "PatientAge",
        "PatientSex",
        "PresentationIntentType",
        "VOILUTFunction",
        "SpecificCharacterSet",
        "ImageType",
        "PatientOrientation",
        "ShutterShape",
        "SeriesDescription",
    }
)
CODES = ("BodyPartExamined", "ViewPosition", "Modality", "PatientSex", "ImageType")
# Written at every log level, by this program or by Beam.
LOUD = (
    "import logging, sys; logging.basicConfig(level=1); "
    "from beam_pipeline.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


def value(vr: str, number: int) -> str | None:
    if vr in ("LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "AE", "CS"):
        return f"{CANARY}{number}"
    dates = {"DA": BORN, "DT": f"{BORN}101112", "TM": None, "UI": f"{FOREIGN_UID}.1"}
    return dates.get(vr)


def plant(dataset: Dataset, kept: frozenset[str] = KEPT) -> int:
    """Put a mark into every attribute that holds text; how many."""
    count = 0
    for number, (tag, (vr, *_, keyword)) in enumerate(DicomDictionary.items()):
        mark = value(vr, number)
        if mark is None or not keyword or keyword in kept or Tag(tag).group < 8:
            continue
        dataset.add_new(tag, vr, mark)
        count += 1
    item = Dataset()
    item.PatientName, item.PatientID = f"{CANARY}^NESTED", f"{CANARY}-NESTED"
    for sequence in ("OtherPatientIDsSequence", "RequestAttributesSequence"):
        setattr(dataset, sequence, [item])
    block = dataset.private_block(0x0011, f"{CANARY} PRIVATE", create=True)
    block.add_new(0x01, "LO", f"{CANARY} PRIVATE")
    return count


def marked(**attributes: object) -> FileDataset:
    dataset = radiographs.dicom(radiographs.chest(0.6))
    plant(dataset, KEPT)
    for keyword, given in attributes.items():
        setattr(dataset, keyword, given)
    return dataset


def raw(dataset: FileDataset, keyword: str, text: str) -> bytes:
    """The file with `text` where a number or UID stands, which pydicom would refuse."""
    placeholder = "9" * len(text)
    setattr(dataset, keyword, placeholder)
    return radiographs.to_bytes(dataset).replace(placeholder.encode(), text.encode())


def files() -> Iterator[tuple[str, bytes]]:
    whole = radiographs.to_bytes(marked())
    yield "whole.dcm", whole
    yield "truncated.dcm", whole[:-1000]
    yield "header-only.dcm", whole[: len(whole) // 3]
    yield "no-preamble.dcm", whole[132:]
    for keyword in CODES:
        yield f"{keyword}.dcm", radiographs.to_bytes(marked(**{keyword: "CANARY JOHN"}))
    described = marked(BodyPartExamined="", SeriesDescription=f"HAND OF {CANARY}")
    yield "described.dcm", radiographs.to_bytes(described)
    for keyword in ("PhotometricInterpretation", "VOILUTFunction", "ShutterShape"):
        yield f"{keyword}.dcm", radiographs.to_bytes(marked(**{keyword: CANARY}))
    for keyword in ("WindowCenter", "RescaleSlope", "StudyInstanceUID"):
        yield f"bad-{keyword}.dcm", raw(marked(), keyword, "CANARY12")
    charset = marked(SpecificCharacterSet="ISO_IR 100")
    yield (
        "charset.dcm",
        radiographs.to_bytes(charset).replace(b"ISO_IR 100", b"CANARY 100"),
    )
    yield "text.dcm", f"{CANARY} {CANARY}".encode() * 100
    yield "picture.png", _png()
    yield "cut.png", _png()[:-200]


def _png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", f"{CANARY} in a chunk")
    exif = Image.Exif()
    exif[0x010E] = f"{CANARY} in EXIF"
    stream = io.BytesIO()
    Image.fromarray(radiographs.chest(0.5)).save(stream, "PNG", pnginfo=text, exif=exif)
    return stream.getvalue()


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    below = folder / f"{CANARY}^Ward" / "studies"
    below.mkdir(parents=True)
    for name, data in files():
        (below / f"{CANARY}-{name}").write_bytes(data)
    return folder


def score(export: Path, model: Path, output: Path, *flags: str) -> str:
    """Score the export as loudly as can be; what it said."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "always", "-c", LOUD, "score"),
            *(f"--input={export}", f"--output={output}", f"--model={model}"),
            *("--default_sdk_harness_log_level=DEBUG", *flags),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "DEBUG" in done.stderr
    return done.stdout + done.stderr


def tables(output: Path) -> list[dict]:
    found = []
    for path in output.rglob("*.parquet"):
        assert not MARKS.search(str(pq.read_schema(path)))
        found += pq.ParquetFile(path).read().to_pylist()
    return found


def marks_of(text: str) -> set[str]:
    """The lines with a mark, for a message that says where."""
    return {line[:200] for line in text.splitlines() if MARKS.search(line)}


def test_every_text_attribute_has_a_mark() -> None:
    dataset = Dataset()
    assert plant(dataset) > 1500
    profile = "PatientName PatientID PatientBirthDate AccessionNumber StudyDescription "
    profile += "InstitutionName OperatorsName RequestingPhysician ImageComments "
    profile += "StudyDate DeviceSerialNumber StationName OtherPatientNames"
    assert all(keyword in dataset for keyword in profile.split())


def test_no_row_log_or_record_holds_a_mark(
    export: Path, model_dir: Path, tmp_path: Path
) -> None:
    said = score(export, model_dir, tmp_path / "out")
    assert not marks_of(said)
    rows = tables(tmp_path / "out")
    assert {row["status"] for row in rows if "status" in row} == {
        "SCORED",
        "REJECTED",
        "ERROR",
    }
    # A path names its file; that is what these two columns are for.
    shown = [
        {k: v for k, v in row.items() if k not in ("source_uri", "duplicate_of")}
        for row in rows
    ]
    assert not marks_of("\n".join(map(str, shown)))
    for path in (tmp_path / "out").rglob("*"):
        assert not MARKS.search(path.name)
        if path.suffix == ".json":
            assert not marks_of(path.read_text("utf-8"))


def test_deidentified_not_even_a_path_or_uid_is_left(
    export: Path, model_dir: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    said = score(
        export,
        model_dir,
        tmp_path / "out",
        "--deidentify",
        f"--pseudonym_key_file={key}",
    )
    assert not marks_of(said)
    [last] = [line for line in said.splitlines() if line.startswith("radiograph-")]
    assert "exit_code=0" in last
    assert "/" not in last
    rows = tables(tmp_path / "out")
    assert not marks_of("\n".join(map(str, rows)))
    instances = [row for row in rows if "source_uri" in row]
    assert all(row["source_uri"].startswith("hmac-sha256:") for row in instances)
    uids = [
        row[name]
        for row in instances
        for name in ("study_instance_uid", "series_instance_uid", "sop_instance_uid")
        if row[name] is not None
    ]
    assert uids
    assert all(uid.startswith("2.25.") for uid in uids)
    assert any(row["patient_key"] for row in instances)
    [record] = (tmp_path / "out").glob("runs/*/run.json")
    assert str(export) not in record.read_text("utf-8")
    assert not marks_of(record.read_text("utf-8"))


def test_inspect_prints_no_mark(export: Path, model_dir: Path, tmp_path: Path) -> None:
    names = []
    for number, (_, data) in enumerate(files()):
        (tmp_path / f"{number}").write_bytes(data)
        names.append(str(tmp_path / f"{number}"))
    done = subprocess.run(
        [
            *(sys.executable, "-W", "always", "-m", "beam_pipeline", "inspect"),
            *(f"--model={model_dir}", *names),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "would be scored" in done.stdout
    assert not marks_of(done.stdout + done.stderr)
