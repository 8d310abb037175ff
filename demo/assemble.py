"""Assemble a small PACS export from files that pip packages carry.

    python demo/assemble.py demo/export

Chest radiographs (RG1) and an extremity (RG3) of the NEMA compression samples from
pydicom-data; CT, MR, SR, RT and a waveform from pydicom's own test files; PNG and JPEG
written from decoded radiographs; and three broken files.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file

from beam_pipeline import images

CHESTS = ("RG1_UNCR", "RG1_UNCI", "RG1_J2KR", "RG1_J2KI")
EXTREMITIES = ("RG3_UNCR", "RG3_UNCI", "RG3_J2KR", "RG3_J2KI")
OTHERS = (
    "693_J2KR",
    "JPEG-LL",
    "JPGExtended",
    "SC_rgb_rle",
    "emri_small_RLE",
    "693_UNCR",
    "CT_small",
    "MR2_J2KI",
    "MR2_UNCR",
    "MR_small",
    "MR_small_RLE",
    "MR_small_jpeg_ls_lossless",
    "US1_J2KR",
    "SC_rgb_jpeg_dcmtk",
    "color3d_jpeg_baseline",
    "image_dfl",
    "liver_1frame",
    "reportsi",
    "test-SR",
    "rtdose",
    "rtplan",
    "rtstruct",
    "waveform_ecg",
)


def main(export: Path) -> None:
    """Make the folder `export` anew."""
    shutil.rmtree(export, ignore_errors=True)
    for folder, names in [
        ("chest", CHESTS),
        ("extremity", EXTREMITIES),
        ("other", OTHERS),
    ]:
        (export / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(real(name), export / folder / f"{name}.dcm")
    write_rasters(export / "exported")
    write_broken(export / "broken")
    count = sum(path.is_file() for path in export.rglob("*"))
    print(f"{export}: {count} files")


def real(name: str) -> Path:
    """A file of pydicom or pydicom-data, by its name."""
    path = get_testdata_file(f"{name}.dcm", download=False)
    if path is None:
        sys.exit(f"{name}.dcm is in neither pydicom nor pydicom-data: make demo")
    return Path(path)


def write_rasters(folder: Path) -> None:
    """PNG in 8 bits, 16 bits and palette, and JPEG, of real radiographs."""
    folder.mkdir()
    for name in ("RG1_UNCR", "RG3_UNCR"):
        pixels = picture(real(name))
        Image.fromarray(pixels).save(folder / f"{name}_8bit.png")
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=95)
    pixels = picture(real("RG1_UNCI"))
    Image.fromarray(pixels.astype(np.uint16) * 257).save(folder / "RG1_16bit.png")
    palette = Image.fromarray(pixels).convert("P")
    palette.save(folder / "RG1_palette.png")


def write_broken(folder: Path) -> None:
    """A truncated DICOM, a text file named .dcm, an empty file."""
    folder.mkdir()
    whole = real("RG1_UNCR").read_bytes()
    (folder / "truncated.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.dcm").write_text("This is no DICOM file.\n" * 40, "utf-8")
    (folder / "empty.dcm").touch()


def picture(path: Path) -> np.ndarray:
    """The upright 8-bit picture of a radiograph."""
    with path.open("rb") as stream:
        header = images.read_header(stream)
    return images.decode(path.read_bytes(), header).pixels


if __name__ == "__main__":
    main(Path(sys.argv[1]))
