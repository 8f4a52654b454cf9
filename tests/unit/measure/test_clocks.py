"""Timed slices and warm-up: whole iterations, nothing untimed inside, and an end."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.config import ProtocolConfig
from harness.measure.clocks import WINDOW_S, counted_slice, sustained, timed_slice, warm_up


class Sleeper:
    """Sleeps as long as it is told, once a call; remembers what it saw."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0
        self.collector_was_on: list[bool] = []

    def __call__(self) -> None:
        self.collector_was_on.append(gc.isenabled())
        time.sleep(self.seconds[min(self.calls, len(self.seconds) - 1)])
        self.calls += 1


def test_a_slice_is_whole_iterations_until_its_time_is_used_up():
    run = Sleeper(0.01)
    milliseconds = timed_slice(run, ramp_iterations=0, slice_s=0.05)
    assert len(milliseconds) == run.calls
    assert sum(milliseconds) >= 50
    assert sum(milliseconds[:-1]) < 50
    assert all(10 <= ms < 500 for ms in milliseconds)


def test_the_ramp_is_run_and_not_timed():
    run = Sleeper(0.3, 0.3, 0.002)
    milliseconds = timed_slice(run, ramp_iterations=2, slice_s=0.01)
    assert run.calls == len(milliseconds) + 2
    assert max(milliseconds) < 300


def test_an_iteration_longer_than_the_slice_is_timed_once():
    run = Sleeper(0.05)
    (only,) = timed_slice(run, ramp_iterations=0, slice_s=0.001)
    assert only >= 50


def test_the_garbage_collector_stays_out_of_a_slice_and_comes_back():
    run = Sleeper(0.001)
    timed_slice(run, ramp_iterations=1, slice_s=0.005)
    assert set(run.collector_was_on) == {False}
    assert gc.isenabled()

    def fails() -> None:
        raise RuntimeError("engine")

    with pytest.raises(RuntimeError):
        timed_slice(fails, ramp_iterations=0, slice_s=0.005)
    assert gc.isenabled()


def test_the_usual_recipe_is_a_fixed_number_of_iterations_after_a_fixed_warm_up():
    run = Sleeper(0.2, 0.001)
    milliseconds = counted_slice(run, warmups=1, iterations=20)
    assert (len(milliseconds), run.calls) == (20, 21)
    assert max(milliseconds) < 200


def windows_of(run) -> Callable[[float], list[float]]:
    """Return what a warm-up asks for its windows: slices of this, without a ramp."""
    return lambda seconds: timed_slice(run, ramp_iterations=0, slice_s=seconds)


class Script:
    """Answers each window with the next milliseconds of a list, the last of them for ever."""

    def __init__(self, *windows: list[float]) -> None:
        self.windows = windows
        self.asked: list[float] = []

    def __call__(self, seconds: float) -> list[float]:
        self.asked.append(seconds)
        return self.windows[min(len(self.asked), len(self.windows)) - 1]


def test_a_warm_up_ends_when_the_last_windows_agree():
    run = Sleeper(0.3, 0.15, 0.02)
    settings = ProtocolConfig(warmup_windows=3, warmup_tolerance=0.5, warmup_max_s=30)
    found = warm_up(windows_of(run), settings, min_s=0)
    assert found.steady
    assert found.iterations == run.calls >= 2 + 3  # the two slow ones are windows of their own, outside the tolerance
    assert found.seconds >= 0.3 + 0.15 + 3 * WINDOW_S


def test_windows_agree_by_their_means_within_the_tolerance_and_all_of_the_last_ones():
    settings = ProtocolConfig(warmup_windows=3, warmup_tolerance=0.05)
    script = Script([100.0], [107.0], [100.0], [103.0, 105.0], [100.0], [120.0])
    found = warm_up(script, settings, min_s=0)
    assert (found.steady, found.iterations) == (True, 6)  # 107 is among the last three until the fifth window
    assert script.asked == [WINDOW_S] * 5
    from_the_start = Script([100.0])
    assert warm_up(from_the_start, replace(settings, warmup_min_iterations=1), min_s=0).steady
    assert len(from_the_start.asked) == 3


def test_a_warm_up_that_never_settles_ends_at_its_limit_and_says_so():
    class Slowing(Sleeper):
        def __call__(self) -> None:
            time.sleep(0.05 * 2**self.calls)
            self.calls += 1

    found = warm_up(windows_of(Slowing()), ProtocolConfig(warmup_tolerance=0.05, warmup_max_s=0.3), min_s=0)
    assert not found.steady
    assert found.seconds >= 0.3


def test_a_warm_up_lasts_for_its_shortest_time_and_count():
    settings = ProtocolConfig(warmup_tolerance=9, warmup_min_iterations=1)
    assert warm_up(windows_of(Sleeper(0.01)), settings, min_s=0.6).seconds >= 0.6
    run = Sleeper(0.06)
    settings = ProtocolConfig(warmup_tolerance=9, warmup_min_iterations=8, warmup_windows=1)
    found = warm_up(windows_of(run), settings, min_s=0)
    assert found.iterations == run.calls == 8


def test_a_load_for_the_energy_counter_lasts_as_long_as_asked_and_waits_for_each_handful():
    queued, waits = [], []

    def wait() -> None:
        waits.append(len(queued))
        time.sleep(0.01)

    found = sustained(lambda: queued.append(1), wait, seconds=0.1, ahead=8)
    assert found.seconds >= 0.1
    assert found.iterations == len(queued) == 8 * len(waits)
    assert waits == list(range(8, len(queued) + 1, 8))
