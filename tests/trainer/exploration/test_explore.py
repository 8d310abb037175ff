"""python -m trainer explore: a page, tables and warnings of any data set."""

from __future__ import annotations

import argparse
import base64
import csv
import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from tests.trainer import data_sets
from trainer.commands import explore as command
from trainer.data.dataset import DatasetError, Naming
from trainer.exploration import explore


def run(data, output, *flags):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(
        parser.parse_args(["--data", str(data), "--output", str(output), *flags])
    )


def rows(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A data set with every fault, and what was found in it."""
    picture = data_sets.picture(900, 300, 280)
    files = {f"train/{name}": p for name, p in data_sets.two_classes(12).items()}
    files |= {
        "val/NORMAL/person0_7.png": data_sets.picture(901, 64, 90),
        "train/NORMAL/person80_$a$<b>.png": picture,
        "train/PNEUMONIA/person81.png": picture,
        "val/PNEUMONIA/person82.jpeg": picture.resize((140, 150)),
        "train/NORMAL/empty.png": b"",
    }
    folder = tmp_path_factory.mktemp("broken")
    data = data_sets.write(folder / "data", files)
    name = b"person83_\xff.png".decode("utf-8", "surrogateescape")
    data_sets.picture(902).save(data / "train" / "NORMAL" / "x.png")
    os.rename(data / "train/NORMAL/x.png", data / "train/NORMAL" / name)
    assert run(data, folder / "out") == 0
    return data, folder / "out"


def test_every_file_has_a_row(broken):
    data, output = broken
    found = rows(output / "files.csv")
    names = {p.relative_to(data).as_posix() for p in data.rglob("*") if p.is_file()}
    assert set(found) == names
    row = found["val/NORMAL/person0_7.png"]
    with Image.open(data / "val/NORMAL/person0_7.png") as image:
        assert (row["width"], row["height"]) == tuple(map(str, image.size))
    assert (row["class"], row["split"], row["format"]) == (
        "NORMAL",
        "validation",
        "PNG",
    )
    assert row["patient"] == "/NORMAL/person0"
    assert found["train/NORMAL/empty.png"]["reason"] == "EMPTY_FILE"
    assert found["train/NORMAL/empty.png"]["nearest"] == ""
    copy = found["train/PNEUMONIA/person81.png"]
    assert copy["duplicate_of"] == copy["nearest"] == "train/NORMAL/person80_$a$<b>.png"
    assert copy["distance"] == "0"


def test_pairs_say_what_they_cross(broken):
    _, output = broken
    with (output / "pairs.csv").open(encoding="utf-8") as stream:
        found = {(r["kind"], r["other"]): r["crosses"] for r in csv.DictReader(stream)}
    assert found == {
        ("near", "val/PNEUMONIA/person82.jpeg"): "split|label|patient",
        ("file", "train/PNEUMONIA/person81.png"): "label|patient",
    }


def test_the_summary_counts_the_same(broken):
    _, output = broken
    found = json.loads((output / "summary.json").read_text("utf-8"))
    assert (found["files"], found["readable"]) == (30, 29)
    assert found["classes"]["PNEUMONIA"] == {
        "images": 14,
        "patients": 14,
        "images_by_split": {"training": 13, "validation": 1},
    }
    assert found["reasons"] == {"EMPTY_FILE": 1}
    assert found["pairs"]["file"] == {
        "all": 1,
        "across_splits": 0,
        "across_labels": 1,
        "across_patients": 1,
    }
    assert found["patients_in_two_splits"] == 1
    assert found["formats"] == {"PNG, 8 bits, L": 28, "JPEG, 8 bits, L": 1}
    assert found["sizes"]["width"][-1] == 280
    assert {w["level"] for w in found["warnings"]} == {"mend", "check"}


def test_the_page_stands_alone_and_shows_what_was_found(broken):
    _, output = broken
    page = (output / "explore.html").read_text("utf-8")
    assert not re.search(r"<script|<link|src=\"(?!data:)|href=|url\(", page)
    found = json.loads((output / "summary.json").read_text("utf-8"))
    plain = page.replace("&#34;", '"').replace("&lt;", "<").replace("&gt;", ">")
    assert all(warning["text"] in plain for warning in found["warnings"])
    assert "person80_$a$&lt;b&gt;.png" in page
    inlined = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    saved = [path.read_bytes() for path in (output / "figures").iterdir()]
    assert sorted(map(base64.b64decode, inlined)) == sorted(saved)
    assert len(page) < 3_000_000
    for png in saved:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        assert pixels.std() > 5


def test_warnings_are_printed_the_worst_first(tmp_path, capsys):
    files = {**data_sets.two_classes(), "NORMAL/person9.png": b""}
    run(data_sets.write(tmp_path / "data", files), tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(" mend: 1 file cannot be read (EMPTY_FILE 1)")
    assert lines[-1] == f"{tmp_path / 'out' / 'explore.html'}: 7 files"
    # Who a picture is of is nobody's business but the page's.
    assert not any("person" in line for line in lines)


def test_the_least_typical_image_is_the_odd_one(tmp_path):
    odd = Image.fromarray(255 - np.asarray(data_sets.picture(0)))
    files = {f"A/{n}.png": data_sets.picture(0) for n in range(4)}
    data = data_sets.write(tmp_path, {**files, "A/odd.png": odd})
    found = explore.explore(data, Naming("x"))
    assert found.survey.name(int(np.argmax(found.unlike_class))) == "A/odd.png"


def test_a_table_of_several_findings_with_columns(tmp_path):
    lines = ["path,labels,age,sex,split"]
    for number in range(24):
        data_sets.write(tmp_path, {f"{number}.png": data_sets.picture(number)})
        labels = ("", "EDEMA", "EFFUSION", "EDEMA|EFFUSION")[number % 4]
        lines.append(f"{number}.png,{labels},{number},{'FM'[number % 2]},train")
    (tmp_path / "data.csv").write_text("\n".join(lines), "utf-8")
    assert run(tmp_path / "data.csv", tmp_path / "out") == 0
    found = rows(tmp_path / "out" / "files.csv")
    assert found["3.png"]["class"] == "EDEMA|EFFUSION"
    assert found["3.png"]["age"] == "3"
    page = (tmp_path / "out" / "explore.html").read_text("utf-8")
    assert "Columns by class" in page
    assert re.search(r"<td>EDEMA</td><td>1</td>", page)


def test_a_file_that_a_table_names_and_is_not_there_is_told_of(tmp_path, capsys):
    data_sets.write(tmp_path, {f"{n}.png": data_sets.picture(n) for n in range(4)})
    lines = ["path,label", "0.png,A", "1.png,A", "2.png,B", "3.png,B", "gone.png,B"]
    (tmp_path / "data.csv").write_text("\n".join(lines), "utf-8")
    assert run(tmp_path / "data.csv", tmp_path / "out") == 0
    assert "1 file cannot be read" in capsys.readouterr().out
    assert len(rows(tmp_path / "out" / "files.csv")) == 5


def test_classes_may_stand_in_the_names(tmp_path):
    files = {f"{n}_{'ab'[n % 2]}.png": data_sets.picture(n) for n in range(4)}
    data = data_sets.write(tmp_path / "data", files)
    assert run(data, tmp_path / "out", "--class_pattern", r"_([ab])\.") == 0
    found = rows(tmp_path / "out" / "files.csv").values()
    assert sorted(row["class"] for row in found) == ["A", "A", "B", "B"]


def test_a_data_set_without_one_readable_image_is_told_of(tmp_path):
    data = data_sets.write(tmp_path / "data", {"A/1.png": b"", "B/2.png": b"x"})
    assert run(data, tmp_path / "out") == 0
    page = (tmp_path / "out" / "explore.html").read_text("utf-8")
    assert "2 files cannot be read" in page


def test_no_files_is_an_error(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DatasetError, match="has no files"):
        run(tmp_path / "data", tmp_path / "out")


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        run(tmp_path / "data", tmp_path / "out")


def test_the_output_may_not_lie_in_the_data(tmp_path):
    data = data_sets.write(tmp_path, data_sets.two_classes())
    with pytest.raises(ValueError, match="choose another folder"):
        run(data, data / "out")
    assert not (data / "out").exists()


def test_a_wrong_pattern_is_an_error(tmp_path):
    data = data_sets.write(tmp_path / "data", data_sets.two_classes())
    with pytest.raises(DatasetError, match="no regular expression"):
        run(data, tmp_path / "out", "--patient_pattern", "(")
