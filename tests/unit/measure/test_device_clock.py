"""Device time: each iteration's own, between events on its stream, with the host's launching out of it."""

from __future__ import annotations

import gc

import pytest

from harness.measure.clocks import device_slice, no_collector, timed_slice


def test_device_time_is_the_devices_alone_where_the_wall_has_the_launch_too(gpu):
    launch = gpu.launcher(0.5, 2.0)
    assert set(device_slice(launch, gpu.stream, ramp_iterations=3, slice_s=0.05)) == {2.0}

    def synchronous() -> None:
        launch()
        gpu.stream.synchronize()

    assert set(timed_slice(synchronous, ramp_iterations=0, slice_s=0.05)) == {2.5}


def test_every_time_belongs_to_its_own_iteration_and_the_first_of_a_round_has_none(gpu):
    lengths = [100.0, 100.0, *(1.0 + n / 8 for n in range(20))]  # two of the ramp, then all different
    found = device_slice(gpu.launcher(0.01, *lengths), gpu.stream, ramp_iterations=2, slice_s=0.009)
    rounds = [lengths[3:5], lengths[6:10]]  # the first two take 2.375 ms, so a round of four follows
    assert found == pytest.approx([length for one in rounds for length in one])


def test_rounds_grow_from_two_to_the_most_until_the_slice_is_used_up(gpu):
    launches = gpu.collector_was_on
    for most, slice_s, timed, rounds in (
        (8, 0.030, 2 + 4 + 8 + 8, 4),
        (8, 0.003, 2, 1),
        (3, 0.03, 2 + 3 * 5, 6),
        (1, 0.003, 2, 2),
    ):
        launches.clear()
        found = device_slice(gpu.launcher(0.1, 2.0), gpu.stream, ramp_iterations=5, slice_s=slice_s, most=most)
        assert (len(found), len(launches)) == (timed, 5 + rounds + timed)
        assert sum(found) >= slice_s * 1e3


def test_a_slow_cell_is_timed_twice_and_let_go(gpu):
    assert device_slice(gpu.launcher(0.1, 700.0), gpu.stream, ramp_iterations=0, slice_s=0.05) == [700.0, 700.0]


def test_the_collector_is_out_of_a_device_slice_and_comes_back_only_where_it_was(gpu):
    device_slice(gpu.launcher(0.1, 2.0), gpu.stream, ramp_iterations=1, slice_s=0.01)
    assert set(gpu.collector_was_on) == {False}
    assert gc.isenabled()
    gc.disable()
    try:
        with no_collector():
            pass
        assert not gc.isenabled()  # whoever turned it off did not ask for it
    finally:
        gc.enable()


def test_work_is_enqueued_on_the_cells_own_stream(gpu):
    seen = []

    def launch() -> None:
        seen.append(gpu.current)
        gpu.stream.enqueue(lambda: None, 0.1, 2.0)

    device_slice(launch, gpu.stream, ramp_iterations=1, slice_s=0.01)
    assert set(seen) == {gpu.stream}
    assert gpu.current is None
