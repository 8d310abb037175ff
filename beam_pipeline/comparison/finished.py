"""Finished runs: which there are below an output, and what they hold."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_pipeline import runs

_BEFORE = re.compile(r"(?P<output>.+)~(?P<back>\d+)")
_READERS = 16


@dataclass(frozen=True)
class FinishedRun:
    """A run that is complete.

    Attributes:
        output: the folder or bucket prefix that it is in.
        document: its `run.json`.
    """

    output: str
    document: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """Its name."""
        return str(self.document["run_id"])

    @property
    def path(self) -> str:
        """What names it."""
        return _join(self.output, "runs", self.run_id)

    @property
    def finished(self) -> datetime:
        """When it did."""
        return datetime.fromisoformat(self.document["finished"])

    @property
    def seconds(self) -> float:
        """How long it took."""
        started = datetime.fromisoformat(self.document["started"])
        return (self.finished - started).total_seconds()

    def table(self, name: str, columns: list[str]) -> pa.Table:
        """Some `columns` of its table `name`: the files that `run.json` names.

        Raises:
            ValueError: a file that is gone, cannot be read or has other rows.
        """
        files = [
            file
            for file in self.document["files"]
            if file["path"].startswith(f"{name}/")
        ]
        return pa.concat_tables([self._part(file, columns) for file in files])

    def _part(self, file: Mapping[str, Any], columns: list[str]) -> pa.Table:
        path = _join(self.output, file["path"])
        try:
            part = runs.read_parquet(path, columns)
        except (OSError, BeamIOError, pa.ArrowException) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from error
        if part.num_rows != file["rows"]:
            raise ValueError(
                f"{path} has {part.num_rows} rows and run.json says {file['rows']}: "
                "it is not the file that the run wrote"
            )
        return part


def find(name: str) -> FinishedRun:
    """The finished run that `name` names.

    `OUTPUT/runs/ID` is a run; `OUTPUT` is the newest that finished there, `OUTPUT~1`
    the one before it, `OUTPUT~2` the one before that.

    Raises:
        ValueError: there is no such run, it has not finished, or it cannot be read.
    """
    name = _rooted(name)
    if _exists(_join(name, "_SUCCESS")):
        folder, run_id = FileSystems.split(name)
        return _load(_rooted(FileSystems.split(_rooted(folder))[0]), run_id)
    if found := _newest_first(name):
        return found[0]
    back = _BEFORE.fullmatch(name)
    found = _newest_first(back["output"]) if back else []
    if back and len(found) > int(back["back"]):
        return found[int(back["back"])]
    if found:
        raise ValueError(
            f"{name}: {back and back['output']} has {len(found)} finished runs only"
        )
    raise ValueError(
        f"{name} is no finished run and has none below it: there is neither "
        f"{_join(name, '_SUCCESS')} nor {_join(name, 'runs', '*', '_SUCCESS')}. Give "
        "OUTPUT/runs/ID of a run that has finished, or OUTPUT for the newest one"
    )


def _newest_first(output: str) -> list[FinishedRun]:
    """The finished runs below `output`, by when they finished."""
    try:
        marks = runs.list_files(output, "runs/*/_SUCCESS")
    except (ValueError, OSError, BeamIOError) as error:
        raise ValueError(f"{output} cannot be listed: {error}") from error
    names = [FileSystems.split(FileSystems.split(mark)[0])[1] for mark in marks]
    # One small object each: in a bucket the time is all waiting.
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(lambda run_id: _load(output, run_id), names))
    return sorted(found, key=lambda run: (run.finished, run.run_id), reverse=True)


def _load(output: str, run_id: str) -> FinishedRun:
    path = _join(output, "runs", run_id, "run.json")
    try:
        with FileSystems.open(path) as stream:
            run = FinishedRun(output, json.loads(stream.read()))
        if run.run_id != run_id or not run.document["files"] or run.seconds < 0:
            raise ValueError("it is another run's")
    except (OSError, BeamIOError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what score writes: {error!r}") from error
    return run


def _exists(path: str) -> bool:
    try:
        return bool(FileSystems.exists(path))
    except (ValueError, OSError, BeamIOError) as error:
        raise ValueError(f"{path} cannot be looked for: {error}") from error


def _rooted(name: str) -> str:
    """One way to name a run, so that two names can be told to be the same run's."""
    if FileSystems.get_scheme(name) is None:
        return os.path.abspath(name)
    return name.rstrip("/")


def _join(*names: str) -> str:
    return str(FileSystems.join(*names))
