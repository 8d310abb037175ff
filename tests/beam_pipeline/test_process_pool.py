from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from beam_pipeline.process_pool import Allowance, Died, Worker

SECONDS = 1.0
MEMORY = 64 * 2**20
ALLOWANCE = Allowance(SECONDS, MEMORY)
# How much later than its deadline a process may be found dead on a busy machine.
TOLERANCE = 5.0

# Processes import their task by name, so it stands in a file and not in this module.
TASKS = """
    import ctypes, mmap, os, signal, sys, time

    def act(item):
        kind, value = item
        yield kind
        if kind == "double":
            yield 2 * value
        elif kind == "process":
            yield os.getpid()
        elif kind == "segfault":
            ctypes.string_at(0)
        elif kind == "abort":
            os.abort()
        elif kind == "exit":
            os._exit(value)
        elif kind == "raise":
            raise ValueError("a defect")
        elif kind == "sleep":
            time.sleep(value)
        elif kind == "spin":
            # One call into native code that never looks for signals of Python's.
            sum(range(10**15))
        elif kind == "allocate":
            yield len(bytearray(value))
        elif kind == "leave behind":
            left.append(bytearray(value))
        elif kind == "leave a cycle":
            cycle = [bytearray(value)]
            cycle.append(cycle)
        elif kind == "map":
            # What a decoder in C gets: no MemoryError but a failed malloc.
            yield len(mmap.mmap(-1, value, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        elif kind == "shout":
            print("Canary^Patient")
            print("Canary^Patient", file=sys.stderr, flush=True)
            os.write(2, b"Canary^Patient")
        elif kind == "limits":
            import resource
            yield resource.getrlimit(resource.RLIMIT_CORE)

    left, much = [], []

    def keep():
        much.append(bytearray(64 * 2**20))

    def kept(item):
        yield len(much[0])
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "pool_tasks.py").write_text(textwrap.dedent(TASKS))
    monkeypatch.syspath_prepend(tmp_path)
    import pool_tasks

    yield pool_tasks
    del sys.modules["pool_tasks"]


@pytest.fixture
def worker(tasks: ModuleType) -> Iterator[Worker]:
    found = Worker(tasks.act, ALLOWANCE)
    yield found
    found.close()


def process_of(worker: Worker) -> int:
    return list(worker.run(("process", None)))[-1]


def lives(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    # A zombie has ended; that nobody asked for its status is its parent's affair.
    return stat.rpartition(")")[2].split()[0] != "Z"


def ends(process: int, within: float) -> bool:
    until = time.monotonic() + within
    while lives(process) and time.monotonic() < until:
        time.sleep(0.02)
    return not lives(process)


def killed(worker: Worker, kind: str, value: object = None) -> tuple[Died, list]:
    """How the process died of an item, and the messages until then."""
    messages: list[object] = []
    with pytest.raises(Died) as caught:
        messages.extend(worker.run((kind, value)))
    return caught.value, messages


def test_items_are_answered_in_one_process(worker: Worker) -> None:
    assert list(worker.run(("double", 21))) == ["double", 42]
    assert process_of(worker) == process_of(worker) != os.getpid()


@pytest.mark.parametrize(
    ("kind", "value", "ended_by"),
    [
        ("segfault", None, signal.SIGSEGV),
        ("abort", None, signal.SIGABRT),
        ("exit", 0, None),
        ("exit", 7, None),
        ("raise", None, None),
    ],
)
def test_a_crash_costs_one_item_and_keeps_what_was_said(
    worker: Worker, kind: str, value: object, ended_by: int | None
) -> None:
    before = process_of(worker)
    death, messages = killed(worker, kind, value)
    assert (death.timed_out, death.signal) == (False, ended_by)
    assert messages == [kind]
    assert not lives(before)
    assert list(worker.run(("double", 1))) == ["double", 2]
    assert process_of(worker) != before


@pytest.mark.parametrize(("kind", "value"), [("sleep", 60), ("spin", None)])
def test_a_deadline_ends_native_code_as_well(
    worker: Worker, kind: str, value: object
) -> None:
    before = process_of(worker)
    clock = time.monotonic()
    death, messages = killed(worker, kind, value)
    assert SECONDS <= time.monotonic() - clock < SECONDS + TOLERANCE
    assert (death.timed_out, death.signal) == (True, signal.SIGALRM)
    assert messages == [kind]
    assert not lives(before)
    assert list(worker.run(("double", 1))) == ["double", 2]


def test_each_item_has_a_deadline_of_its_own(worker: Worker) -> None:
    before = process_of(worker)
    for _ in range(3):
        assert list(worker.run(("sleep", 0.6 * SECONDS))) == ["sleep"]
    # Time between items counts for none of them.
    time.sleep(1.2 * SECONDS)
    assert process_of(worker) == before


@pytest.mark.parametrize("kind", ["allocate", "map"])
def test_memory_is_limited(worker: Worker, kind: str) -> None:
    assert list(worker.run((kind, MEMORY // 2))) == [kind, MEMORY // 2]
    death, messages = killed(worker, kind, 2 * MEMORY)
    assert not death.timed_out
    # Python says so; what native code does when it has none is its own affair.
    assert death.out_of_memory == (kind == "allocate")
    assert messages == [kind]
    assert list(worker.run((kind, MEMORY // 2))) == [kind, MEMORY // 2]


@pytest.mark.parametrize(("left", "stays"), [(MEMORY // 8, True), (MEMORY // 2, False)])
def test_what_an_item_leaves_behind_is_not_taken_from_the_next(
    worker: Worker, left: int, stays: bool
) -> None:
    before = process_of(worker)
    assert list(worker.run(("leave behind", left))) == ["leave behind"]
    assert list(worker.run(("allocate", MEMORY * 3 // 4))) == [
        "allocate",
        MEMORY * 3 // 4,
    ]
    assert (process_of(worker) == before) == stays
    assert lives(before) == stays


def test_garbage_is_collected_before_a_process_is_given_up(worker: Worker) -> None:
    before = process_of(worker)
    for _ in range(3):
        list(worker.run(("leave a cycle", MEMORY // 2)))
    assert process_of(worker) == before


def test_a_process_that_ended_between_items_costs_none(worker: Worker) -> None:
    before = process_of(worker)
    os.kill(before, signal.SIGKILL)
    assert ends(before, TOLERANCE)
    assert process_of(worker) != before


def test_an_item_that_nobody_waits_for_leaves_nothing_to_the_next(
    worker: Worker,
) -> None:
    answers = worker.run(("double", 21))
    assert next(answers) == "double"
    answers.close()
    assert list(worker.run(("double", 1))) == ["double", 2]


def test_a_new_process_comes_after_so_many_items(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_pipeline.process_pool._ITEMS_A_PROCESS", 2)
    first, second, third = (process_of(worker) for _ in range(3))
    assert first == second != third
    assert not lives(first)


def test_workers_in_threads_do_not_disturb_each_other(tasks: ModuleType) -> None:
    found: dict[int, list[object]] = {}

    def work(number: int) -> None:
        worker = Worker(tasks.act, ALLOWANCE)
        answers: list[object] = []
        for step in range(10):
            try:
                kind = "segfault" if step % 5 == number else "double"
                answers.append(list(worker.run((kind, 100 * number + step))))
            except Died as death:
                answers.append(death.signal)
        worker.close()
        found[number] = answers

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {
        number: [
            signal.SIGSEGV
            if step % 5 == number
            else ["double", 2 * (100 * number + step)]
            for step in range(10)
        ]
        for number in range(3)
    }


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_closed_worker_leaves_no_process(tasks: ModuleType, forgotten: bool) -> None:
    worker = Worker(tasks.act, ALLOWANCE)
    process = process_of(worker)
    if forgotten:
        del worker
    else:
        worker.close()
    assert not lives(process)


def test_a_worker_that_was_closed_can_be_used_again(worker: Worker) -> None:
    before = process_of(worker)
    worker.close()
    worker.close()
    assert process_of(worker) != before


PARENT = """
    import sys
    import pool_tasks
    from beam_pipeline.process_pool import Allowance, Worker

    worker = Worker(pool_tasks.act, Allowance(float(sys.argv[1]), 2**26))
    print(list(worker.run(("process", None)))[-1], flush=True)
    for kind in sys.argv[2:]:
        for message in worker.run((kind, 600)):
            print(message, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("busy", [[], ["sleep"], ["spin"]], ids=str)
def test_a_killed_parent_leaves_no_process(
    tasks: ModuleType, tmp_path: Path, busy: list[str]
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(SECONDS), *busy],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    with parent:
        process = int(parent.stdout.readline())
        for kind in busy:
            assert parent.stdout.readline().decode().strip() == kind
        assert lives(process)
        parent.kill()
    assert ends(process, SECONDS + TOLERANCE)


def test_a_task_that_cannot_be_imported_is_told_of(
    tasks: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pool_tasks.py").write_text("raise ImportError('no such decoder')")
    worker = Worker(tasks.act, ALLOWANCE)
    with pytest.raises(RuntimeError, match="did not start") as caught:
        list(worker.run(("double", 1)))
    assert not isinstance(caught.value, Died)
    assert "no such decoder" in capfd.readouterr().err
    worker.close()


def test_what_a_decoder_prints_is_not_shown(
    worker: Worker, capfd: pytest.CaptureFixture[str]
) -> None:
    assert list(worker.run(("shout", None))) == ["shout"]
    worker.close()
    assert capfd.readouterr() == ("", "")


def test_a_crash_leaves_no_core_file(worker: Worker) -> None:
    assert list(worker.run(("limits", None))) == ["limits", (0, 0)]


def test_what_is_prepared_is_no_item_s_cost(tasks: ModuleType) -> None:
    worker = Worker(tasks.kept, Allowance(SECONDS, MEMORY // 2), tasks.keep)
    assert list(worker.run(None)) == [MEMORY]
    worker.close()


def test_a_default_timeout_of_sockets_changes_nothing(tasks: ModuleType) -> None:
    before = socket.getdefaulttimeout()
    # As Beam's Google client sets it.
    socket.setdefaulttimeout(60)
    try:
        worker = Worker(tasks.act, ALLOWANCE)
        assert list(worker.run(("double", 4))) == ["double", 8]
        worker.close()
    finally:
        socket.setdefaulttimeout(before)
