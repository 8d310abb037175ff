"""What earlier runs leave behind: what never finished, and what is no longer wanted.

`_SUCCESS` is written last and deleted first, so that who asks for it never takes half a
run for a whole one. Who calls these holds the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apache_beam.io.filesystems import FileSystems

from beam_pipeline import runs
from beam_pipeline.runs import Run

_TABLES = ("instances", "studies")


def clean(output: str) -> None:
    """Delete what a run left that was killed while it published or was deleted.

    Its journal stays: the next run takes its rows over.
    """
    finished = {_run_id(path) for path in runs.list_files(output, "runs/*/_SUCCESS")}
    for pattern in ("instances/run=*/*", "studies/run=*/*", "runs/*/run.json"):
        for folder, run_id in _folders(output, pattern):
            if run_id not in finished:
                runs.delete_folder(folder)
    begun = set(_folders(output, "_journal/*/run.json"))
    for folder, run_id in _folders(output, "_journal/*/*"):
        # A job that outlived its run goes on to write into a journal that is gone.
        if run_id in finished or (folder, run_id) not in begun:
            runs.delete_folder(folder)


def close(run: Run) -> None:
    """Delete the journal of a finished run, and those that it took over whole.

    A journal of other inputs stays: who runs those again finds it.
    """
    runs.delete_folder(run.journal())
    for document in runs.documents(run.output):
        if not document["finished"] and document["inputs"] == run.inputs:
            runs.delete_folder(_path(run.output, "_journal", document["run_id"]))


def retire(output: str, keep: int) -> None:
    """Delete all finished runs but the newest `keep`, and journals begun before those.

    Args:
        output: of all runs, one of which has finished.
        keep: 1 or more.
    """
    newest_first = sorted(runs.documents(output), key=_started, reverse=True)
    finished = [each for each in newest_first if each["finished"]]
    for document in finished[keep:]:
        _delete_run(output, document["run_id"])
    for document in newest_first:
        if not document["finished"] and _started(document) < _started(
            finished[:keep][-1]
        ):
            runs.delete_folder(_path(output, "_journal", document["run_id"]))


def _delete_run(output: str, run_id: str) -> None:
    folder = _path(output, "runs", run_id)
    FileSystems.delete([FileSystems.join(folder, "_SUCCESS")])
    for table in _TABLES:
        runs.delete_folder(_path(output, table, f"run={run_id}"))
    runs.delete_folder(folder)


def _folders(output: str, pattern: str) -> Iterator[tuple[str, str]]:
    """Each folder with a file that matches, and the run that it is of."""
    found = {FileSystems.split(path)[0] for path in runs.list_files(output, pattern)}
    for folder in sorted(found):
        yield folder, FileSystems.split(folder)[1].removeprefix("run=")


def _run_id(path: str) -> str:
    return str(FileSystems.split(FileSystems.split(path)[0])[1])


def _path(*names: str) -> str:
    return str(FileSystems.join(*names))


def _started(document: dict[str, Any]) -> str:
    return str(document["started"])
