"""How every file ends that comes with pydicom and pydicom-data.

`public_files.csv` was gone through row by row. A note stands where the outcome could be
doubted. Ages are left out of the rules: the only chest is an adult's.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest

from beam_pipeline.images import rules
from beam_pipeline.images.eligibility import Rules
from beam_pipeline.read import Reading
from beam_pipeline.records import Ready, Source
from tests import radiographs

with Path(__file__).with_name("public_files.csv").open(newline="") as stream:
    TABLE = {row["file"]: row for row in csv.DictReader(stream)}

_packed = importlib.util.find_spec("data_store")
ROOTS = {
    "pydicom": Path(pydicom.data.__file__).parent / "test_files",
    "pydicom-data": Path(next(iter(_packed.submodule_search_locations))),
}
ANY_AGE = dataclasses.replace(radiographs.ELIGIBILITY, patient_age_years=None)
MANIFEST = radiographs.manifest(eligibility=ANY_AGE)
JUDGED = Reading(preparation=MANIFEST.preparation, rules=rules.compiled(MANIFEST))
DECODED = Reading(preparation=MANIFEST.preparation, rules=Rules(()))


def path_of(name: str) -> Path:
    package, _, relative = name.partition("/")
    return ROOTS[package] / relative


def ended(reading: Reading, name: str) -> tuple[str, str, str]:
    *_, found = reading(Source(str(path_of(name))))
    if isinstance(found, Ready):
        return "READY", "", " ".join(found.outcome.flags)
    return str(found.status), str(found.reason), " ".join(found.flags)


def test_the_table_has_every_file() -> None:
    found = {
        f"{package}/{path.relative_to(root).as_posix()}"
        for package, root in ROOTS.items()
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert found == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_file_ends_as_it_should(name: str) -> None:
    row = TABLE[name]
    assert ended(JUDGED, name) == (row["status"], row["reason"], row["flags"])


@pytest.mark.parametrize("name", TABLE)
def test_without_rules_it_is_decoded(name: str) -> None:
    row = TABLE[name]
    expected = (row["decoded_status"], row["decoded_reason"])
    assert ended(DECODED, name)[:2] == expected


def test_nothing_here_is_a_defect_of_ours() -> None:
    reasons = {row["decoded_reason"] for row in TABLE.values()}
    assert "INTERNAL_ERROR" not in reasons
    assert np.mean([row["decoded_status"] == "READY" for row in TABLE.values()]) > 0.3
