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


def clean(run: Run) -> None:
    """Delete what a run left that was killed while it published or was deleted.

    Its journal stays: the next run takes its rows over. Not so where `run` has its name
    and asks for something else: one journal cannot say two things.
    """
    output = run.output
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
    # Also one whose record cannot be read: nobody knows what its rows rest on.
    if not any(_same(document, run) for document in runs.documents(output)):
        runs.delete_folder(run.journal())


def _same(document: dict[str, Any], run: Run) -> bool:
    """Whether `document` is of a run of that name that asked for the same."""
    asked = [each.get("options") or {} for each in (document, run.document)]
    rescore = [bool(each.get("rescore")) for each in asked]
    named = document["run_id"] == run.run_id and rescore[0] == rescore[1]
    return named and document.get("basis") == run.document["basis"]


def close(run: Run) -> None:
    """Delete the journal of a finished run, and those that it took over whole.

    A journal of other inputs stays: who runs those again finds it.
    """
    runs.delete_folder(run.journal())
    for document in runs.documents(run.output):
        if not document.get("finished") and document.get("inputs") == run.inputs:
            runs.delete_folder(_path(run.output, "_journal", document["run_id"]))


def retire(run: Run, keep: int) -> None:
    """Delete finished runs but `run` and the newest, and journals begun before those.

    Args:
        run: has just finished.
        keep: how many stay, 1 or more.
    """
    output = run.output
    newest_first = sorted(runs.documents(output), key=_started, reverse=True)
    finished = [each for each in newest_first if each.get("finished")]
    # A clock that was set back would make this run the oldest.
    finished.sort(key=lambda document: document["run_id"] != run.run_id)
    for document in finished[keep:]:
        _delete_run(output, document["run_id"])
    oldest = min(_started(document) for document in finished[:keep])
    for document in newest_first:
        if not document.get("finished") and _started(document) < oldest:
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
