from __future__ import annotations

import hashlib
import hmac
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydicom.uid import UID

from beam_pipeline.__main__ import main
from beam_pipeline.images import Header
from beam_pipeline.pseudonyms import KeyFileError, Pseudonyms
from beam_pipeline.records import Outcome, Source
from tests import radiographs

KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "pseudonym.key"
    path.write_bytes(KEY + b"\n")
    return path


def digest(message: str, key: bytes = KEY) -> str:
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()


def header(**attributes: str) -> Header:
    stated = {keyword: (value,) for keyword, value in attributes.items()}
    return Header(format="DICOM", attributes=stated)


def test_keys_are_hmacs_that_a_site_can_compute(key_file: Path) -> None:
    pseudonyms = Pseudonyms(str(key_file))
    row = pseudonyms.identified(
        Outcome.of(Source("a.dcm")),
        header(PatientID="4711", IssuerOfPatientID="SITE", AccessionNumber="A 1"),
    )
    assert row.patient_key == digest("patient\0SITE\x004711")
    assert row.accession_key == digest("accession\0A 1")
    assert pseudonyms.key_id == digest("key\0")[:16]


def test_what_a_file_does_not_say_has_no_key(key_file: Path) -> None:
    row = Pseudonyms(str(key_file)).identified(Outcome.of(Source("a.dcm")), header())
    assert (row.patient_key, row.accession_key) == (None, None)


def test_another_key_gives_other_pseudonyms(key_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(KEY[::-1])
    found = {
        Pseudonyms(str(path))
        .identified(Outcome.of(Source("a.dcm")), header(PatientID="4711"))
        .patient_key
        for path in (key_file, other, key_file)
    }
    assert len(found) == 2


def test_uids_and_paths_are_replaced_only_where_that_is_asked(key_file: Path) -> None:
    outcome = replace(
        Outcome.of(Source("/ward/name.dcm")),
        study_instance_uid="1.2",
        sop_instance_uid="1.2.3",
        sop_class_uid=radiographs.CR,
    )
    assert Pseudonyms(str(key_file)).applied(outcome) == outcome
    row = Pseudonyms(str(key_file), deidentify=True).applied(outcome)
    assert row.study_instance_uid == f"2.25.{int(digest(f'uid{chr(0)}1.2')[:32], 16)}"
    assert row.series_instance_uid is None
    assert UID(row.sop_instance_uid).is_valid
    assert len(row.sop_instance_uid) <= 64
    assert row.source_uri == f"hmac-sha256:{digest(f'uri{chr(0)}/ward/name.dcm')}"
    assert row.sop_class_uid == radiographs.CR


def test_the_key_travels_in_no_job(key_file: Path) -> None:
    pseudonyms = Pseudonyms(str(key_file), deidentify=True)
    assert pseudonyms.key_id
    assert KEY not in pickle.dumps(pseudonyms)


@pytest.mark.parametrize("content", [b"", b" \n", b"short", KEY[:31]])
def test_a_short_key_is_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.key"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match="32 or more"):
        _ = Pseudonyms(str(path)).key_id
    (tmp_path / "a.dcm").write_bytes(b"x")
    flags = [f"--input={tmp_path}/*.dcm", f"--output={tmp_path / 'out'}"]
    assert main(["score", *flags, f"--pseudonym_key_file={path}"]) == 2
    assert "32 or more" in capsys.readouterr().err


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        _ = Pseudonyms(str(tmp_path / "gone.key")).key_id


def test_deidentify_needs_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--input={tmp_path}", f"--output={tmp_path / 'out'}", "--deidentify"]
    assert main(["score", *flags]) == 2
    assert "--pseudonym_key_file" in capsys.readouterr().err


def test_a_run_hashes_the_same_each_night(
    model_dir: Path, key_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for name in ("one", "two"):
        dataset = radiographs.dicom(
            radiographs.chest(0.4 if name == "one" else 0.7), StudyInstanceUID="1.2.3"
        )
        (folder / f"{name}.dcm").write_bytes(radiographs.to_bytes(dataset))
    nights = [score(folder, model_dir, key_file, tmp_path / n) for n in ("n1", "n2")]
    rows, again = (sorted(night, key=lambda row: row["source_uri"]) for night in nights)
    same = ("source_uri", "patient_key", "study_instance_uid", "sop_instance_uid")
    for name in same:
        assert [row[name] for row in rows] == [row[name] for row in again]
    assert {row["patient_key"] for row in rows} == {digest("patient\0\0CANARY-4711")}
    [study] = pq.read_table(tmp_path / "n1" / "studies").to_pylist()
    assert study["study_instance_uid"] == rows[0]["study_instance_uid"]
    assert study["images"] == 2
    [record] = (tmp_path / "n1").glob("runs/*/run.json")
    document = json.loads(record.read_text())
    expected = {"key_id": digest("key\0")[:16], "deidentify": True}
    assert document["pseudonyms"] == expected
    written = b"".join(p.read_bytes() for p in (tmp_path / "n1").rglob("*.*"))
    assert KEY not in written
    assert str(folder).encode() not in written


def score(folder: Path, model: Path, key_file: Path, output: Path) -> list[dict]:
    flags = [f"--input={folder}", f"--output={output}", f"--model={model}"]
    privacy = ["--deidentify", f"--pseudonym_key_file={key_file}"]
    assert main(["score", *flags, *privacy]) == 0
    rows: list[dict] = pq.read_table(output / "instances").to_pylist()
    return rows
