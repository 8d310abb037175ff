"""Nights over one archive of small files: time and memory, at several sizes.

    python -m benchmarks.nights 10000
    python -m benchmarks.nights 25000 100000 --model MODEL_DIR

For each size an archive of DICOM files of 96 × 96 pixels, two to a study, is scored
with the model in the box, or with another: a first night, a second one, one with
another threshold, and into another output one that is killed when half of the files are
in the journal, and the one after it. The archive lies in the temporary folder: 20 KB a
file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pydicom import dcmwrite, uid
from pydicom.dataset import FileDataset, FileMetaDataset

from beam_pipeline.manifest import DEFAULT_MODEL
from benchmarks import watched
from benchmarks.watched import Finished

_SIZE = 96
_FOLDER_FILES = 1000
_SAME = {"run_id", "scored_at", "carried_from"}
# A batch of another shape gives the last digits of a score another value.
_DIGITS = 4
_HEADER = ("first", "second", "threshold", "killed", "resumed")


def main() -> None:
    """Measure every size, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=int, nargs="+")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    given = parser.parse_args()
    rows = []
    for files in given.files:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model").symlink_to(given.model.absolute())
            rows.append((files, nights(Path(folder), files)))
        print(json.dumps({"files": files} | _figures(rows[-1][1])), flush=True)
    print(table(rows))


def nights(folder: Path, files: int) -> dict[str, Finished]:
    """What each night took; their rows are held against each other."""
    build(folder / "archive", files)
    found = {
        "first": score(folder, "out", "first"),
        "second": score(folder, "out", "second"),
        "threshold": score(folder, "out", "threshold", "--threshold=0.123"),
    }
    assert rows_of(folder, "out", "second") == rows_of(folder, "out", "first")
    found["killed"] = watched.run(
        *arguments(folder, "other", "killed"), kill_when=half_is_written(folder, files)
    )
    found["resumed"] = score(folder, "other", "resumed")
    assert rows_of(folder, "other", "resumed") == rows_of(folder, "out", "first")
    return found


def arguments(folder: Path, output: str, run_id: str) -> list[str]:
    """The command line of one night."""
    return [
        "score",
        f"--input={folder / 'archive'}",
        f"--output={folder / output}",
        f"--model={folder / 'model'}",
        "--allow_unblessed",
        f"--run_id={run_id}",
    ]


def score(folder: Path, output: str, run_id: str, *flags: str) -> Finished:
    """One night that has to end well."""
    finished = watched.run(*arguments(folder, output, run_id), *flags)
    assert finished.returncode == 0, finished.printed
    return finished


def half_is_written(folder: Path, files: int) -> Callable[[], bool]:
    """Whether the journal of the output `other` holds half of the files."""

    def is_written() -> bool:
        segments = (folder / "other" / "_journal").glob("*/segment-*.parquet")
        return 2 * sum(pq.read_metadata(each).num_rows for each in segments) >= files

    return is_written


def rows_of(folder: Path, output: str, run_id: str) -> list[dict[str, object]]:
    """The rows of a run, without what differs from night to night."""
    rows = pq.read_table(folder / output / "instances" / f"run={run_id}")
    kept = [name for name in rows.column_names if name not in _SAME]
    return rounded(rows.select(kept).sort_by("source_uri").to_pylist())


def rounded(value: Any) -> Any:
    """`value` with every number in it rounded."""
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def build(archive: Path, files: int) -> None:
    """Write `files` distinct radiographs of 96 × 96 pixels."""
    random = np.random.default_rng(0)
    shade = np.add.outer(np.arange(_SIZE), np.arange(_SIZE)) * 8
    for number in range(files):
        folder = archive / f"{number // _FOLDER_FILES:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 1024, shade.shape)
        pixels = (shade + noise).astype(np.uint16)
        write(folder / f"{number}.dcm", pixels, number)


def write(path: Path, pixels: np.ndarray, number: int) -> None:
    """Write one radiograph."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    dataset = FileDataset(None, {}, preamble=b"\0" * 128, file_meta=meta)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = f"1.2.4.{number // 2}"
    dataset.Modality = "DX"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PatientAge = "004Y"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    dcmwrite(path, dataset, enforce_file_format=True)


def table(rows: list[tuple[int, dict[str, Finished]]]) -> str:
    """Seconds, seconds of the processors and peak memory, by the number of files."""
    lines = ["| files | " + " | ".join(_HEADER) + " | peak memory |"]
    lines.append("|---|" + "---|" * (len(_HEADER) + 1))
    for files, found in rows:
        seconds = " | ".join(
            f"{found[name].seconds:,.0f} s ({found[name].cpu_seconds:,.0f})"
            for name in _HEADER
        )
        peak = max(each.peak for each in found.values()) / 1e9
        lines.append(f"| {files:,} | {seconds} | {peak:.2f} GB |")
    return "\n".join(lines)


def _figures(found: dict[str, Finished]) -> dict[str, float]:
    return {
        f"{name}_{what}": round(value, 2)
        for name, each in found.items()
        for what, value in [
            ("seconds", each.seconds),
            ("cpu_seconds", each.cpu_seconds),
            ("gb", each.peak / 1e9),
        ]
    }


if __name__ == "__main__":
    main()
