"""DCMTK's rendering of a DICOM file, by its own commands."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from beam_pipeline.images import Picture

# The same command thrice, each with the codecs that it was built with.
COMMANDS = ("dcm2pnm", "dcmj2pnm", "dcml2pnm")
_MISSING = [command for command in COMMANDS if shutil.which(command) is None]

# CI must not pass by leaving this out: .ci/run installs DCMTK and sets the variable.
needed = pytest.mark.skipif(
    bool(_MISSING) and "REQUIRE_DCMTK" not in os.environ,
    reason="DCMTK is not installed: apt-get install dcmtk",
)


def render(path: Path, *options: str) -> NDArray[np.int64] | None:
    """The 8-bit picture of the first frame, or None where DCMTK cannot decode it."""
    for command in COMMANDS:
        arguments = [command, "+op", "-O", *options, str(path)]
        done = subprocess.run(arguments, capture_output=True, check=False)
        if done.returncode == 0 and done.stdout:
            with Image.open(io.BytesIO(done.stdout)) as image:
                return np.asarray(image, np.int64) if image.mode == "L" else None
    return None


def same_voi(picture: Picture) -> tuple[str, ...]:
    """The options that make DCMTK take the VOI transformation that our picture took.

    A LUT or a window it reads from the file itself, with its function. What the file
    does not hold, or DCMTK 3.6.7 does not know, it is given: percentiles, LINEAR_EXACT.
    """
    names = [step.name.split() for step in picture.steps]
    if picture.voi == "lut":
        return ("+Wl", "1")
    if picture.voi == "window":
        window, function = next(name[1:] for name in names if name[0] == "window")
        if function != "LINEAR_EXACT":
            return ("+Wi", "1")
        center, width = map(float, window.split("/"))
        return _exact(center - width / 2, center + width / 2)
    _, low, _, high = next(name for name in names if name[0] == "percentiles")
    return _exact(float(low), float(high))


def _exact(low: float, high: float) -> tuple[str, ...]:
    """A window that shows `low` black and `high` white.

    LINEAR takes half a value from the center and one from the width (PS3.3
    C.11.2.1.2.1); given back, it is LINEAR_EXACT.
    """
    center, width = (low + high) / 2 + 0.5, high - low + 1
    return ("+Ww", f"{center:.10g}", f"{width:.10g}", "+Wfl")
