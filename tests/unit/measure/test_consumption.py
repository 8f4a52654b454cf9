"""Consumption: joules an image from a counter that moves in steps, and the memory of the very process."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from harness.config import ProtocolConfig
from harness.measure.cell import SustainedLoad
from harness.measure.telemetry import consumption, power_between_ticks

WATTS = 300.0
TICK_S = 0.05


class Clock:
    """A clock that only sleeping moves: what follows is exact on however busy a machine."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Meter:
    """Looks like telemetry of a GPU that draws `WATTS`; its counter moves every `TICK_S`, and reading it takes 3 ms."""

    def __init__(self, clock: Clock, moves: bool = True) -> None:
        self.clock, self.moves = clock, moves

    def joules(self) -> float:
        self.clock.sleep(0.003)
        ticks = math.floor(self.clock.now / TICK_S) if self.moves else 7
        return 5000.0 + WATTS * TICK_S * ticks

    def device_memory_mb(self, pid: int) -> float | None:
        return 512.0 if pid == os.getpid() else None

    def sm_clock_mhz(self) -> float:
        return 1800.0 if self.clock.now < 1001.0 else 1700.0  # it falls after a second of load

    def capped_s(self) -> dict[str, float]:
        return {"power": max(0.0, self.clock.now - 1001.0)}  # and the power limit is why


class Busy:
    """Looks like a worker of this process that runs 400 batches in as many seconds as it was told, and half of that."""

    pid = os.getpid()

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def send(self, command: str, argument: float) -> None:
        self.told.append((command, argument))

    def receive(self, command: str, timeout_s: float) -> SustainedLoad:
        return SustainedLoad(iterations=400, seconds=1.5 * self.told[-1][1])


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("harness.measure.telemetry.time", clock)
    return clock


def test_power_is_that_between_the_second_and_the_last_tick():
    steady = [(10.0 + 0.1 * n, 50.0 + 25.0 * n) for n in range(6)]
    assert power_between_ticks(steady) == pytest.approx(250.0, rel=1e-12)
    late = [(9.0, 49.0), *steady[1:]]  # the first one may count from before the load
    assert power_between_ticks(late) == pytest.approx(250.0, rel=1e-12)
    uneven = [(0.0, 0.0), (1.0, 100.0), (2.0, 150.0), (4.0, 700.0)]
    assert power_between_ticks(uneven) == pytest.approx(600.0 / 3.0, rel=1e-12)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_too_few_ticks_tell_no_power(count):
    assert power_between_ticks([(float(n), 10.0 * n) for n in range(count)]) is None


def test_energy_an_image_is_power_over_images_a_second(clock):
    worker = Busy()
    (found,) = consumption({"hw": worker}, 8, ProtocolConfig(energy_s=2.0), Meter(clock)).values()
    assert worker.told == [("sustain", 2.0)]
    assert clock.now - 1000.0 < 2.0  # the counter is read only while the worker is certainly busy
    assert found.energy_j_per_image == pytest.approx(WATTS * 3.0 / (400 * 8), rel=0.02)
    assert found.device_memory_mb == 512.0


def test_a_load_without_pauses_has_a_speed_a_clock_and_what_held_that_down(clock):
    sustained = consumption({"hw": Busy()}, 8, ProtocolConfig(energy_s=2.0), Meter(clock))["hw"].sustained
    assert sustained.throughput_ips == pytest.approx(400 * 8 / 3.0)  # it took 3 s
    assert sustained.clock_mhz == pytest.approx(1800 / 1.9 + 1700 * 0.9 / 1.9, rel=0.01)  # watched for 95% of 2 s
    assert sustained.capped == pytest.approx({"power": 0.9 / 1.9}, rel=0.03)


def test_a_load_too_short_for_the_counter_or_a_counter_that_stands_still_gives_no_energy(clock):
    workers = {"hw": Busy()}
    assert consumption(workers, 8, ProtocolConfig(energy_s=0.1), Meter(clock))["hw"].energy_j_per_image is None
    still = Meter(clock, moves=False)
    assert consumption(workers, 8, ProtocolConfig(energy_s=1.0), still)["hw"].energy_j_per_image is None


def test_no_load_is_run_where_nobody_asks_for_energy_or_nothing_measures_it(clock):
    no_counter = SimpleNamespace(joules=lambda: None, device_memory_mb=lambda pid: None)
    for settings, telemetry in ((ProtocolConfig(energy_s=0), Meter(clock)), (ProtocolConfig(), no_counter)):
        worker = Busy()
        (found,) = consumption({"hw": worker}, 8, settings, telemetry).values()
        assert worker.told == []
        assert found.energy_j_per_image is None and found.sustained is None
        assert found.host_memory_mb > 50  # of this process, with numpy and torch


def test_the_host_memory_of_a_process_is_its_own_and_its_peak(clock):
    code = "held = b'x' * 300_000_000; del held; print('freed', flush=True); input()"
    worker = Busy()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"freed\n"
            worker.pid = process.pid
            found = consumption({"hw": worker}, 8, ProtocolConfig(energy_s=0), Meter(clock))["hw"]
        finally:
            process.kill()
    assert 300 < found.host_memory_mb < 400
    assert found.device_memory_mb is None  # nobody told of that process


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_ended_and_waits_to_be_reaped_has_no_memory(clock):
    worker = Busy()
    with subprocess.Popen(["true"]) as process:
        worker.pid = process.pid
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        found = consumption({"hw": worker}, 8, ProtocolConfig(energy_s=0), Meter(clock))["hw"]
    assert found.host_memory_mb is None


def test_a_process_that_is_gone_has_no_memory(clock):
    worker = Busy()
    with subprocess.Popen(["true"]) as process:
        worker.pid = process.pid
    found = consumption({"hw": worker}, 8, ProtocolConfig(energy_s=0), Meter(clock))["hw"]
    assert found.host_memory_mb is None
