from __future__ import annotations

import threading

import pytest

from beam_pipeline import device
from beam_pipeline.device import Device, DeviceTime, Stopwatch

CPU = Device("CPU", 32)


class Clock:
    """Says how many microseconds it is told to be at."""

    def __init__(self) -> None:
        self.micros = 0

    def __call__(self) -> int:
        return self.micros * 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


# Clocks may begin at 0.
@pytest.mark.parametrize("began", [-100, 0, 5_000])
def test_idle_is_what_lies_between_batches_alone(clock: Clock, began: int) -> None:
    stopwatch = Stopwatch(CPU, clock)
    for start, stop in [(100, 130), (150, 160), (160, 200)]:
        clock.micros = began + start
        stopwatch.start()
        clock.micros = began + stop
        stopwatch.stop()
    clock.micros = began + 900
    assert stopwatch.read() == DeviceTime(frozenset({("CPU", 32)}), 3, 80, 20)


def test_batches_that_overlap_count_once(clock: Clock) -> None:
    stopwatch = Stopwatch(CPU, clock)
    for micros, what in [
        (10, stopwatch.start),
        (20, stopwatch.start),
        (30, stopwatch.stop),
        (50, stopwatch.stop),
        (60, stopwatch.start),
        (70, stopwatch.stop),
    ]:
        clock.micros = micros
        what()
    gone_by = stopwatch.read()
    assert (gone_by.batches, gone_by.busy, gone_by.idle) == (3, 50, 10)


def test_readings_add_up_to_the_whole_also_in_the_middle_of_a_batch(
    clock: Clock,
) -> None:
    stopwatch = Stopwatch(CPU, clock)
    readings = []
    for micros, what in [(10, stopwatch.start), (40, None), (70, stopwatch.stop)]:
        clock.micros = micros
        readings.append((what or stopwatch.read)())
    readings = [each for each in [*readings, stopwatch.read()] if each]
    clock.micros = 100
    stopwatch.start()
    readings.append(stopwatch.read())
    total = sum(readings, DeviceTime())
    assert (total.batches, total.busy, total.idle) == (2, 60, 30)


def test_threads_that_give_batches_at_once_lose_no_time() -> None:
    stopwatch = Stopwatch(CPU)

    def work() -> None:
        for _ in range(500):
            stopwatch.start()
            stopwatch.stop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    stopwatch.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stopwatch.stop()
    gone_by = stopwatch.read()
    # There was always one.
    assert (gone_by.batches, gone_by.idle) == (2001, 0)
    assert gone_by.busy > 0


def test_what_is_told_of_a_run_is_told_once_and_of_no_other() -> None:
    device.tell("a", DeviceTime(batches=1, busy=5))
    device.tell("a", DeviceTime(batches=2, busy=7, idle=1))
    device.tell("b", DeviceTime(batches=1))
    assert device.told("a") == DeviceTime(batches=3, busy=12, idle=1)
    assert device.told("a") == DeviceTime()
    assert device.told("b").batches == 1


def test_the_record_says_share_and_seconds_of_all_devices_together() -> None:
    first = DeviceTime(frozenset({("NVIDIA L4", 64)}), 2, 3_000_000, 500_000)
    second = DeviceTime(frozenset({("CPU", 32)}), 1, 0, 500_000)
    assert (first + second).document == {
        "devices": [
            {"device": "CPU", "batch_size": 32},
            {"device": "NVIDIA L4", "batch_size": 64},
        ],
        "batches": 3,
        "busy_seconds": 3.0,
        "idle_seconds": 1.0,
        "idle_share": 0.25,
    }
    assert DeviceTime().document is None
