"""The machine that figures are from, and the versions of what ran on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

_PACKAGES = (
    "radiograph-scorer",
    "apache-beam",
    "tensorflow",
    "keras",
    "numpy",
    "pillow",
    "pydicom",
    "imagecodecs",
    "pylibjpeg-openjpeg",
    "pylibjpeg-libjpeg",
    "python-gdcm",
    "pyjpegls",
    "ray",
)


def described() -> dict[str, str]:
    """What a reader needs to judge a figure."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**30:.0f} GiB",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "system": platform.release(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def sentence(found: Mapping[str, str]) -> str:
    """The same in words."""
    versions = ", ".join(
        f"{name} {version}"
        for name, version in found.items()
        if name in ("python", *_PACKAGES) and version
    )
    return (
        f"{found['cores']} cores of {found['processor']}, {found['memory']}, Linux "
        f"{found['system']}; load at the start {found['load']}. {versions}."
    )


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return name[1] if name else platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
