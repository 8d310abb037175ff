"""Folders and tables become paths, labels and patients."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer import films
from trainer.data import dataset
from trainer.data.dataset import DatasetError, Naming


def write(folder, *names):
    """A file for each name, each with content of its own; `name=content` sets it."""
    for name in names:
        path, _, content = name.partition("=")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content or path, "utf-8")
    return folder


def find(data, **naming):
    return dataset.find(data, Naming(**naming))


def labelled(found):
    """By path name: (class, patient); several classes are parted by commas."""
    rows = zip(found.paths, found.labels, found.patients, strict=True)
    names = np.array(found.classes)
    return {path.name: (",".join(names[on]), patient) for path, on, patient in rows}


def test_labels_follow_the_folders(tmp_path):
    write(tmp_path, "VIRUS/b.png", "NORMAL/a.png", "BACTERIA/c.png", "NORMAL/d.png")
    found = find(tmp_path)
    assert found.classes == ("BACTERIA", "NORMAL", "VIRUS")
    assert {name: label for name, (label, _) in labelled(found).items()} == {
        "a.png": "NORMAL",
        "b.png": "VIRUS",
        "c.png": "BACTERIA",
        "d.png": "NORMAL",
    }


def test_folders_of_a_published_split_are_put_together(tmp_path):
    write(
        tmp_path,
        "train/NORMAL/IM-1-1.png",
        "train/PNEUMONIA/person1_1.png",
        "val/NORMAL/IM-1-2.png",
        "val/PNEUMONIA/person2_2.png",
    )
    found = find(tmp_path)
    assert found.classes == ("NORMAL", "PNEUMONIA")
    assert found.labels.sum(axis=0).tolist() == [2, 2]
    patients = labelled(found)
    assert patients["IM-1-1.png"] == patients["IM-1-2.png"]
    assert patients["person1_1.png"] != patients["person2_2.png"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("B/person1_a.png", "B/person1_b.png", True),
        ("B/person1_a.png", "B/person12_a.png", False),
        ("B/person1_a.png", "B/deep/B/person1_b.png", True),
        ("B/person1_a.png", "A/person1_b.png", False),
        ("train/B/person1_a.png", "val/B/person1_b.png", True),
        ("train/B/person1_a.png", "test/B/person1_b.png", False),
        ("B/scan1.png", "B/scan2.png", False),
    ],
    ids=[
        "one number",
        "two numbers",
        "deeper",
        "another class",
        "training and validation folder",
        "test folder",
        "no number",
    ],
)
def test_whose_image_it_is_follows_from_the_name(tmp_path, one, other, same):
    write(tmp_path, one, other, "A/x.png", "B/y.png")
    found = find(tmp_path)
    patients = {
        path.relative_to(tmp_path).as_posix(): patient
        for path, patient in zip(found.paths, found.patients, strict=True)
    }
    assert (patients[one] == patients[other]) is same


def test_a_pattern_without_a_group_matches_as_a_whole(tmp_path):
    write(tmp_path, "A/p1-a.png", "A/p1-b.png", "A/p2-a.png", "B/p1-a.png")
    found = find(tmp_path, patient=r"p\d")
    assert len(set(found.patients)) == 3


def test_files_without_a_patient_are_counted_and_stand_alone(tmp_path):
    write(tmp_path, "A/person1_a.png", "A/scan1.png", "B/scan2.png", "B/scan3.png")
    found = find(tmp_path)
    assert found.files_without_patient == 3
    assert len(set(found.patients)) == 4


def test_a_pattern_that_is_no_regular_expression_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="unterminated"):
        find(write(tmp_path, "A/x.png", "B/y.png"), patient="(person")


def test_copies_are_left_out_and_counted(tmp_path):
    write(tmp_path, "A/1.png=one", "A/2.png=one", "deep/A/3.png=one", "B/4.png=two")
    found = find(tmp_path)
    assert sorted(labelled(found)) == ["1.png", "4.png"]
    assert found.duplicates == 2
    assert len(found.labels) == len(found.patients) == 2


def test_one_image_under_two_classes_is_refused_by_both_names(tmp_path):
    write(tmp_path, "A/left.png=same", "B/right.png=same", "A/other.png")
    with pytest.raises(DatasetError, match=r"A/left\.png and .*B/right\.png"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "0 classes with files"),
        (("NORMAL/a.png", "NORMAL/b.png"), r"1 classes with files in them \(NORMAL\)"),
    ],
    ids=["empty", "one class"],
)
def test_data_without_two_classes_are_refused(tmp_path, names, message):
    with pytest.raises(DatasetError, match=message):
        find(write(tmp_path, *names))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="nowhere"):
        find(tmp_path / "nowhere")


KERMANY = (
    "NORMAL/IM-0115-0001.jpeg",
    "NORMAL/NORMAL2-IM-1427-0001.jpeg",
    "PNEUMONIA/person1_bacteria_1.jpeg",
    "PNEUMONIA/person1_virus_2.jpeg",
    "PNEUMONIA/person12_virus_3.jpeg",
)


def test_the_names_of_kermany_say_whose_image_it_is(tmp_path):
    found = find(write(tmp_path, *KERMANY))
    assert found.classes == ("NORMAL", "PNEUMONIA")
    assert found.task == "binary"
    assert found.files_without_patient == 0
    patients = {name: patient for name, (_, patient) in labelled(found).items()}
    assert len(set(patients.values())) == 4
    one, other = "person1_bacteria_1.jpeg", "person1_virus_2.jpeg"
    assert patients[one] == patients[other]


def test_names_may_say_the_class_and_patients_stay_who_they_are(tmp_path):
    found = find(write(tmp_path, *KERMANY), label="bacteria|virus")
    assert found.task == "multiclass"
    assert found.classes == ("BACTERIA", "NORMAL", "VIRUS")
    rows = labelled(found)
    assert rows["IM-0115-0001.jpeg"][0] == "NORMAL"
    (one, whose), (other, whose_too) = (
        rows["person1_bacteria_1.jpeg"],
        rows["person1_virus_2.jpeg"],
    )
    assert (one, other) == ("BACTERIA", "VIRUS")
    assert whose == whose_too


def test_names_may_say_a_subtype(tmp_path):
    found = find(write(tmp_path, *KERMANY), subtype="_(bacteria|virus)_")
    assert found.classes == ("NORMAL", "PNEUMONIA")
    subtypes = ["", "", "bacteria", "virus", "virus"]
    assert sorted(found.columns["subtype"].tolist()) == sorted(subtypes)


def test_what_nothing_says_is_no_column(tmp_path):
    assert dict(find(write(tmp_path, *KERMANY)).columns) == {}


def test_folders_say_the_part(tmp_path):
    names = ("train/A/1.png", "val/B/2.png", "test/A/3.png", "B/4.png")
    found = find(write(tmp_path, *names))
    parts = dict(zip(found.names(), found.given_parts.tolist(), strict=True))
    assert list(parts.values()) == ["", "held_out", "training", "validation"]
    assert parts["test/A/3.png"] == "held_out"


def test_a_hidden_file_is_nobodys_image(tmp_path):
    write(tmp_path, "A/1.png", "B/2.png", "A/.DS_Store", ".hidden")
    assert len(find(tmp_path)) == 2


def test_one_image_in_two_splits_is_refused_by_both_names(tmp_path):
    write(tmp_path, "train/A/1.png=same", "test/A/2.png=same", "train/B/3.png")
    with pytest.raises(DatasetError, match=r"test/A/2\.png and .*1\.png.*two splits"):
        find(tmp_path)


def test_some_of_the_examples(tmp_path):
    found = find(write(tmp_path, *KERMANY), subtype="_(bacteria|virus)_")
    chosen = found.chosen(np.array([True, False, False, False, True]))
    assert (
        chosen.names()
        == [found.names()[0], found.names()[4]]
        == [KERMANY[0], KERMANY[3]]
    )
    assert chosen.labels.tolist() == [[True, False], [False, True]]
    assert chosen.columns["subtype"].tolist() == ["", "virus"]
    assert len(chosen.patients) == len(chosen.given_parts) == len(chosen) == 2


def table(folder, *rows, **column):
    """A CSV that names a file for each row."""
    write(folder, *(row["path"] for row in rows))
    return films.write_table(folder, rows)


def row(path, label, **more):
    return {"path": path, "label": label, **more}


def test_a_table_says_what_is_known_of_each_image(tmp_path):
    about = {"patient": "p1", "split": "val", "age": "3", "sex": "F", "view": "AP"}
    other = dict.fromkeys(about, "")
    path = table(
        tmp_path,
        row("in/a.png", "NORMAL", **about, site="north"),
        row("b.png", " PNEUMONIA ", **other, site=""),
    )
    found = find(path)
    assert found.names() == ["in/a.png", "b.png"]
    assert found.classes == ("NORMAL", "PNEUMONIA")
    assert found.labels.tolist() == [[True, False], [False, True]]
    assert found.patients.tolist() == ["p1", "b"]
    assert found.files_without_patient == 1
    assert found.given_parts.tolist() == ["validation", ""]
    columns = {name: values.tolist() for name, values in found.columns.items()}
    assert columns == {
        "age": ["3", ""],
        "sex": ["F", ""],
        "view": ["AP", ""],
        "site": ["north", ""],
    }


def test_the_patient_of_a_table_is_the_same_whatever_the_class(tmp_path):
    rows = [row("a.png", "A", patient="p"), row("b.png", "B", patient="p")]
    assert find(table(tmp_path, *rows)).patients.tolist() == ["p", "p"]


def test_without_a_column_patients_are_found_in_the_names_of_files(tmp_path):
    rows = [row("person1_a.png", "A"), row("person1_b.png", "B"), row("c.png", "B")]
    assert find(table(tmp_path, *rows)).patients.tolist() == ["person1", "person1", "c"]


def test_labels_parted_by_a_bar_are_several_or_none(tmp_path):
    names = {"a.png": "EFFUSION|MASS", "b.png": "", "c.png": " MASS "}
    rows = [{"path": path, "labels": labels} for path, labels in names.items()]
    found = find(table(tmp_path, *rows))
    assert found.task == "multilabel"
    assert found.classes == ("EFFUSION", "MASS")
    assert found.labels.tolist() == [[True, True], [False, False], [False, True]]


def test_the_order_of_several_labels_is_no_difference(tmp_path):
    names = {"a.png=same": "A|B", "b.png=same": "B|A", "c.png": "A"}
    rows = [{"path": path, "labels": labels} for path, labels in names.items()]
    write(tmp_path, *names)
    for each in rows:
        each["path"] = each["path"].partition("=")[0]
    assert find(films.write_table(tmp_path, rows)).duplicates == 1


def test_a_table_as_excel_writes_it_is_understood(tmp_path):
    write(tmp_path, "ä.png", "b.png")
    text = "path,label\r\nä.png,A\r\nb.png,B\r\n"
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert find(tmp_path / "table.csv").names() == ["ä.png", "b.png"]


def test_files_of_a_table_may_lie_anywhere(tmp_path):
    folder = write(tmp_path / "elsewhere", "a.png", "b.png")
    (tmp_path / "tables").mkdir()
    rows = [row(str(folder / "a.png"), "A"), row("../elsewhere/b.png", "B")]
    found = find(films.write_table(tmp_path / "tables", rows))
    assert found.names()[0] == str(folder / "a.png")
    assert all(path.is_file() for path in found.paths)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na.png,A\n", r"the columns file, label; path, and label"),
        ("path,class\na.png,A\n", r"the columns path, class"),
        ("", r"the columns none"),
        ("path,label\na.png,A\nc.png,B\n", r"files that are not there: 1(.|\n)*c\.png"),
        ("path,label\n,A\n", r"line 2: the path is empty"),
        ("path,label\na.png\n", r"line 2: the label is empty"),
        ("path,label\na.png,A\nb.png, \n", r"line 3: the label is empty"),
        ("path,label,split\na.png,A,dev\n", r"line 2: split is 'dev', not train"),
        ("path,label\na.png,A\nb.png,A\n", r"has 1 classes"),
        ("path,label\na.png,A\na.png,B\n", r"same image under two labels"),
        ("path,label,split\na.png,A,train\na.png,A,test\nb.png,B,val\n", r"two splits"),
        ("path,labels\na.png,\nb.png,\n", r"has 0 classes"),
        ("path,label\nä.png,A\n", r"table\.csv is no CSV in UTF-8"),
        ('path,label\na.png,"' + 200_000 * "A", r"table\.csv is no CSV in UTF-8"),
    ],
    ids=[
        "no path",
        "no label",
        "empty",
        "no file",
        "no name",
        "short row",
        "blank label",
        "unknown split",
        "one class",
        "two labels",
        "two splits",
        "no labels",
        "not UTF-8",
        "no end",
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_line(tmp_path, text, said):
    write(tmp_path, "a.png", "b.png")
    (tmp_path / "table.csv").write_text(text, "latin-1")
    with pytest.raises(DatasetError, match=said):
        find(tmp_path / "table.csv")


def test_one_label_of_several_is_enough(tmp_path):
    rows = [{"path": "a.png", "labels": "MASS"}, {"path": "b.png", "labels": ""}]
    found = find(table(tmp_path, *rows))
    assert (found.classes, found.task) == (("MASS",), "multilabel")
