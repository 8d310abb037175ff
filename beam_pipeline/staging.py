"""Models and small files from a bucket, on this machine's disk.

A model lies there by its digest, so that each machine fetches it once, and whoever
finds it there can tell that it is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from beam_pipeline import manifest as manifests
from beam_pipeline import storage
from beam_pipeline.errors import Unreadable
from beam_pipeline.manifest import MANIFEST_PATH, ManifestError
from beam_pipeline.records import Source
from beam_pipeline.storage import Settings

_SETTINGS = Settings()


class StagingError(ValueError):
    """A model or file that cannot be fetched from its bucket."""


def model(where: str | Path, settings: Settings = _SETTINGS) -> Path:
    """The directory of a model that may be in a bucket, staged if it is not here yet.

    Raises:
        StagingError: it cannot be fetched.
        ManifestError: its files are not those of its manifest.
    """
    if "://" not in str(where):
        return Path(where)
    uri = str(where).rstrip("/")
    stated = _fetched(f"{uri}/{MANIFEST_PATH.as_posix()}", settings)
    target = _cache() / "models" / hashlib.sha256(stated).hexdigest()
    if not _is_whole(target):
        shutil.rmtree(target, ignore_errors=True)
        _stage(uri, stated, target, settings)
    return target


def file(where: str, settings: Settings = _SETTINGS) -> Path:
    """A small file that may be in a bucket, as a local one.

    Raises:
        StagingError: it cannot be fetched, and why.
    """
    if "://" not in where:
        return Path(where)
    data = _fetched(where, settings)
    name = f"{hashlib.sha256(data).hexdigest()}{Path(where).suffix}"
    target = _cache() / "files" / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=target.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        os.replace(partial, target)
    return target


def _is_whole(model_dir: Path) -> bool:
    try:
        manifests.verify(manifests.load(model_dir), model_dir)
    except ManifestError:
        return False
    return True


def _stage(uri: str, stated: bytes, target: Path, settings: Settings) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        _write(partial, MANIFEST_PATH.as_posix(), stated)
        manifest = manifests.load(partial)
        for name in manifest.files:
            _write(partial, name, _fetched(f"{uri}/{name}", settings))
        manifests.verify(manifest, partial)
        os.rename(partial, target)
    except ManifestError as error:
        raise ManifestError(str(error).replace(str(partial), uri)) from error
    # Another process was faster.
    except OSError:
        if not target.exists():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ManifestError(f"{folder}: {name!r} lies outside the model")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _fetched(uri: str, settings: Settings) -> bytes:
    try:
        with storage.open(Source(uri), settings) as stream:
            return stream.read()
    except Unreadable as error:
        raise StagingError(f"{uri} cannot be read: {error.detail}") from error


def _cache() -> Path:
    """A folder of this user's that outlives the process, where there is one."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "radiograph-scorer"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    # In a container the user may have no home.
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"radiograph-scorer-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise StagingError(f"{folder} belongs to another user; remove it") from None
    return folder
