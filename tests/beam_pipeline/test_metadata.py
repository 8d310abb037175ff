from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_pipeline import metadata
from beam_pipeline.__main__ import main
from beam_pipeline.metadata import MetadataError, PathPattern
from beam_pipeline.records import Metadata
from tests import radiographs


def table(tmp_path: Path, text: str) -> str:
    path = tmp_path / "metadata.csv"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_path_is_relative_to_the_table_absolute_or_a_uri(tmp_path: Path) -> None:
    path = table(tmp_path, "path,view_position\na.png,PA\n/b.png,ap\ns3://x/c.png,LL\n")
    assert dict(metadata.read(path)) == {
        f"{tmp_path}/a.png": Metadata(view_position="PA"),
        "/b.png": Metadata(view_position="AP"),
        "s3://x/c.png": Metadata(view_position="LL"),
    }


def test_what_spreadsheets_write_is_understood(tmp_path: Path) -> None:
    text = (
        '\ufeffpath,patient_age_years,patient_id,patient_sex\r\n"a, b.png",4.5,,f\r\n'
    )
    found = dict(metadata.read(table(tmp_path, text)))
    assert found == {
        f"{tmp_path}/a, b.png": Metadata(patient_age_years=4.5, patient_sex="F")
    }


def test_parquet_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "metadata.parquet"
    columns = {"path": ["a.png"], "study_instance_uid": ["1.2"], "modality": [None]}
    pq.write_table(pa.table(columns), path)
    expected = Metadata(study_instance_uid="1.2")
    assert dict(metadata.read(str(path))) == {f"{tmp_path}/a.png": expected}


def test_an_age_over_90_and_a_code_that_is_none_are_not_repeated(
    tmp_path: Path,
) -> None:
    text = "path,patient_age_years,body_part\na.png,97,SMITH JOHN\n"
    [(_, found)] = metadata.read(table(tmp_path, text))
    assert (found.patient_age_years, found.body_part) == (90, "NOT_A_CODE")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,view_position\na.png,PA\n", "needs a column 'path'"),
        ("path,view\na.png,PA\n", "it also has: view"),
        ("path,sop_instance_uid\na.png,1.2\nb.png,canary\n", "row 3: sop_instance_uid"),
        ("path,patient_age_years\na.png,canary\n", "row 2: patient_age_years"),
        ("path,patient_age_years\na.png,-1\n", "row 2: patient_age_years"),
        ("path,patient_sex\na.png,canary\n", "row 2: patient_sex is not M, F or O"),
        ("path,patient_sex\n,M\n", "row 2: no path"),
        ("path,patient_sex\na.png,M\na.png,F\n", "row 3: its path stands there twice"),
    ],
)
def test_what_is_wrong_is_named_and_never_repeated(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(MetadataError) as caught:
        metadata.check(table(tmp_path, text))
    assert message in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["gone.csv", "gone.parquet"])
def test_a_table_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MetadataError, match="cannot be read"):
        metadata.check(str(tmp_path / name))


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no Parquet")
    with pytest.raises(MetadataError, match="cannot be read"):
        metadata.check(str(tmp_path / "a.parquet"))


def test_a_pattern_finds_uids_in_the_path() -> None:
    pattern = PathPattern(
        r"(?P<study_instance_uid>[\d.]+)/(?P<view_position>\w+)\.png$"
    )
    found = pattern.of("/export/1.2.3/PA.png")
    assert found == Metadata(study_instance_uid="1.2.3", view_position="PA")
    assert pattern.of("/export/else.png") is None


def test_what_a_path_says_that_cannot_be_is_left_out() -> None:
    """A file's name stops no run."""
    pattern = PathPattern(
        r"(?P<study_instance_uid>\w+)_(?P<patient_sex>\w)_(?P<patient_age_years>\w+)_"
        r"(?P<view_position>\w+)\.png$"
    )
    found = pattern.of("/export/mueller_X_4Y_PA.png")
    assert found == Metadata(view_position="PA")


@pytest.mark.parametrize("uid", ["1", "...", "1.", ".1", "1..2", "1." + "2" * 63])
def test_a_uid_that_is_none_is_left_out(uid: str) -> None:
    assert (
        PathPattern(r"(?P<study_instance_uid>[^/]+)\.png$").of(f"/export/{uid}.png")
        == Metadata()
    )


@pytest.mark.parametrize("pattern", ["(", "no group", "(?P<name>.*)"])
def test_a_pattern_that_cannot_be_used_is_refused(pattern: str) -> None:
    with pytest.raises(MetadataError):
        PathPattern(pattern)


def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export" / "1.2.3"
    folder.mkdir(parents=True)
    for name, brightness in (("a.png", 0.2), ("b.png", 0.8), ("adult.png", 0.5)):
        Image.fromarray(radiographs.chest(brightness)).save(folder / name)
    dataset = radiographs.dicom(radiographs.chest(0.6), StudyInstanceUID="1.9")
    (folder / "c.dcm").write_bytes(radiographs.to_bytes(dataset))
    return tmp_path / "export"


def score(folder: Path, model: Path, output: Path, *flags: str) -> dict[str, dict]:
    command = [f"--input={folder}", f"--output={output}", f"--model={model}"]
    assert main(["score", *command, *flags]) == 0
    rows = pq.read_table(output / "instances").to_pylist()
    return {Path(row["source_uri"]).name: row for row in rows}


def test_a_table_gives_studies_and_meets_the_rules(
    model_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = export(tmp_path)
    path = table(
        tmp_path,
        "path,study_instance_uid,view_position,patient_age_years\n"
        "export/1.2.3/a.png,1.2.3,PA,4\n"
        "export/1.2.3/b.png,1.2.3,PA,4\n"
        "export/1.2.3/adult.png,1.2.3,PA,40\n"
        "export/1.2.3/c.dcm,1.2.3,LL,40\n"
        "export/gone.png,1.2.3,PA,4\n",
    )
    with caplog.at_level(logging.WARNING):
        rows = score(folder, model_dir, tmp_path / "out", f"--metadata={path}")
    assert rows["a.png"]["study_instance_uid"] == "1.2.3"
    assert not {"VIEW_UNKNOWN", "AGE_UNKNOWN"} & set(rows["a.png"]["flags"])
    assert rows["adult.png"]["reason"] == "AGE_OUT_OF_SCOPE"
    assert (rows["c.dcm"]["status"], rows["c.dcm"]["study_instance_uid"]) == (
        "SCORED",
        "1.9",
    )
    studies = pq.read_table(tmp_path / "out" / "studies").to_pylist()
    counts = {s["study_instance_uid"]: (s["images"], s["scored"]) for s in studies}
    assert counts == {"1.2.3": (3, 2), "1.9": (1, 1)}
    assert "1 of its paths are of no file" in caplog.text


def test_the_path_gives_studies_too(
    model_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pattern = r"--path_pattern=/(?P<study_instance_uid>[\d.]+)/[^/]+\.png$"
    with caplog.at_level(logging.WARNING):
        rows = score(export(tmp_path), model_dir, tmp_path / "out", pattern)
    assert "the paths of 1 files do not match" in caplog.text
    assert rows["b.png"]["study_instance_uid"] == "1.2.3"
    assert rows["c.dcm"]["study_instance_uid"] == "1.9"


def test_a_table_that_cannot_be_used_is_refused_before_anything_is_read(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path, "path,view\na.png,PA\n")
    flags = [f"--input={export(tmp_path)}", f"--output={tmp_path / 'out'}"]
    command = ["score", *flags, f"--model={model_dir}", f"--metadata={path}"]
    assert main(command) == 2
    assert "it also has: view" in capsys.readouterr().err
    assert not (tmp_path / "out" / "instances").exists()
