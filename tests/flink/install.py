"""Fetch Flink and Beam's job server into a folder, once.

    python -m tests.flink.install        # into ~/.cache/radiograph-scorer/flink

Flink comes from PyPI, whose hashes pip checks; the job server's jars from Maven
Central, whose checksums Maven checks. Another Flink: FLINK_VERSION=2.2.1, and the path
of its job server as JOB_SERVER_JAR.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

FLINK_VERSION = os.environ.get("FLINK_VERSION", "1.19.3")
CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "radiograph-scorer"
    / "flink"
)
_POM = Path(__file__).with_name("pom.xml")
_MAIN = "org.apache.beam.runners.flink.FlinkJobServerDriver"


@dataclass(frozen=True)
class Installation:
    """Where what a cluster needs lies.

    Attributes:
        flink: the folder with Flink's `lib` and `bin`.
        job_server: Beam's job server, for `java -jar`.
    """

    flink: Path
    job_server: Path


def installed(folder: Path) -> Installation:
    """Fetch what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    given = os.environ.get("JOB_SERVER_JAR")
    return Installation(
        _flink(folder / f"flink-{FLINK_VERSION}"),
        Path(given).absolute() if given else _job_server(folder),
    )


def _flink(folder: Path) -> Path:
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        package = f"apache-flink-libraries=={FLINK_VERSION}"
        # It has no dependencies, and building it must not meet our constraints.
        environment = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}
        command = [*pip, "--dest", partial, package]
        subprocess.run(command, check=True, env=environment)
        (archive,) = partial.iterdir()
        kind = "zip" if archive.suffix == ".whl" else "gztar"
        shutil.unpack_archive(archive, partial, kind)
        archive.unlink()
        partial.rename(folder)
    (jar,) = folder.glob("**/lib/flink-dist-*.jar")
    return jar.parent.parent


def _job_server(folder: Path) -> Path:
    """A jar that holds nothing but the names of those that make up the job server."""
    jar = folder / "job-server.jar"
    if not jar.exists() or jar.stat().st_mtime < _POM.stat().st_mtime:
        listing = folder / "classpath"
        maven = ["mvn", "--batch-mode", "--quiet", "--strict-checksums"]
        maven += [f"-Dmaven.repo.local={folder / 'maven'}", f"--file={_POM}"]
        goal = [
            "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath"
        ]
        goal += ["-DincludeScope=runtime", f"-Dmdep.outputFile={listing}"]
        subprocess.run([*maven, *goal], check=True)
        jars = listing.read_text().strip().split(os.pathsep)
        with zipfile.ZipFile(jar, "w") as archive:
            archive.writestr("META-INF/MANIFEST.MF", _manifest(jars))
    return jar


def _manifest(jars: list[str]) -> bytes:
    paths = " ".join(Path(path).as_uri() for path in jars)
    lines = ["Manifest-Version: 1.0", f"Main-Class: {_MAIN}", f"Class-Path: {paths}"]
    return b"".join(map(_folded, lines))


def _folded(line: str) -> bytes:
    """A line of a manifest, which has 72 bytes at most and goes on after a space."""
    data = line.encode()
    pieces = [data[:72], *(b" " + data[i : i + 71] for i in range(72, len(data), 71))]
    return b"\r\n".join(pieces) + b"\r\n"


if __name__ == "__main__":
    print(installed(CACHE))
