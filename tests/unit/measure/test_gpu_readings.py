"""What is read from a GPU: in our units, of the chip that is timed, and absent where the driver does not tell."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pynvml
import pytest
from simulated_nvml import (
    APPLICATIONS_CLOCKS,
    HW_POWER_BRAKE,
    HW_SLOWDOWN,
    HW_THERMAL,
    IDLE,
    POWER_CAP,
    SW_THERMAL,
)

from harness.measure.telemetry import CAPS, Telemetry

READINGS = {
    "gpu_sm_clock_mhz": 1755.0,
    "gpu_memory_clock_mhz": 2619.0,
    "gpu_temperature_c": 61.0,
    "gpu_power_w": 287.5,
    "gpu_utilisation_percent": 93.0,
    "gpu_memory_mb": 3250.0,
    "gpu_slowdown": 0.0,
}
NOT_SUPPORTED = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def test_a_reading_is_in_the_units_of_its_names_and_nvml_is_closed_after_the_last(nvml):
    with Telemetry("cuda") as telemetry:
        assert telemetry.blind == ""
        assert telemetry.read("hw", restart=0, block=0) is False
        assert telemetry.joules() == 5123.4
    (row,) = telemetry.rows
    assert {name: value for name, value in row.items() if name.startswith("gpu")} == READINGS
    assert (row["cell"], row["visit_s"]) == ("hw", 0.0)
    assert 0 <= row["seconds"] < 60  # since the telemetry began
    assert nvml.opened == 0
    assert telemetry.joules() is None  # nothing is asked of a driver that was closed


def test_the_gpu_that_is_read_is_the_one_that_cuda_calls_the_first(nvml, monkeypatch):
    for shown, name in (("2,0", "GPU-cccc"), ("GPU-bbbb", "GPU-bbbb"), ("", "GPU-aaaa")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        nvml.asked_of.clear()
        with Telemetry("cuda") as telemetry:
            telemetry.read("hw", restart=0, block=0)
            telemetry.joules()
        assert nvml.asked_of == {name}


@pytest.mark.parametrize("reason", [SW_THERMAL, HW_THERMAL, HW_POWER_BRAKE, HW_SLOWDOWN, HW_THERMAL | POWER_CAP])
def test_a_chip_that_is_hot_or_lacks_power_slowed_down(nvml, reason):
    nvml.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = reason
    with Telemetry("cuda") as telemetry:
        assert telemetry.read("hw", restart=0, block=0) is True
    assert telemetry.rows[0]["gpu_slowdown"] == 1.0
    assert telemetry.metrics()["gpu/slowdown"] == 1.0


@pytest.mark.parametrize("reason", [0, IDLE, APPLICATIONS_CLOCKS, POWER_CAP, IDLE | APPLICATIONS_CLOCKS | POWER_CAP])
def test_idling_chosen_clocks_and_the_power_cap_are_no_slowdown(nvml, reason):
    nvml.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = reason
    with Telemetry("cuda") as telemetry:
        assert telemetry.read("hw", restart=0, block=0) is False


def test_what_a_driver_does_not_tell_is_absent_and_the_rest_is_told(nvml):
    for name in ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption"):
        nvml.answers[name] = NOT_SUPPORTED
    with Telemetry("cuda") as telemetry:
        telemetry.read("hw", restart=0, block=0)
        assert telemetry.joules() is None
    assert math.isnan(telemetry.rows[0]["gpu_power_w"])
    metrics = telemetry.metrics()
    assert "gpu/power_w" not in metrics
    assert (metrics["gpu/sm_clock_mhz"], metrics["gpu/memory_mb"]) == (1755.0, 3250.0)


def test_a_driver_that_gives_no_reasons_for_its_clocks_throws_no_block_away_and_that_is_told(nvml):
    nvml.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = NOT_SUPPORTED
    with Telemetry("cuda") as telemetry:
        assert telemetry.read("hw", restart=0, block=0) is False
    assert "gpu/slowdown" not in telemetry.metrics()  # not known is not 0
    assert telemetry.blind == "NVML does not tell whether the chip slows down: a throttled block would not be noticed"


def test_the_memory_of_a_process_is_its_own_in_megabytes(nvml):
    nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = [
        SimpleNamespace(pid=11, usedGpuMemory=900_000_000),
        SimpleNamespace(pid=12, usedGpuMemory=512_000_000),
        SimpleNamespace(pid=13, usedGpuMemory=None),  # NVML_VALUE_NOT_AVAILABLE, as under Windows' driver model
    ]
    with Telemetry("cuda") as telemetry:
        found = [telemetry.device_memory_mb(pid) for pid in (12, 11, 13, 14)]
        assert found == [512.0, 900.0, None, None]
        nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = NOT_SUPPORTED
        assert telemetry.device_memory_mb(12) is None


def test_a_gpu_that_nvml_does_not_know_is_told_and_nvml_is_closed(nvml, monkeypatch):
    def unknown(name):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", unknown)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a")  # CUDA takes an abbreviation
    with Telemetry("cuda") as telemetry:
        assert telemetry.read("hw", restart=0, block=0) is False
    assert telemetry.blind == "NVML can't be read (Not Found): a throttled block would not be noticed"
    assert nvml.opened == 0


@pytest.fixture
def visited(nvml, monkeypatch):
    """Return a function: visited(("hw", 0.5, 1700, 0.2), ...) -> telemetry of visits: cell, s, MHz, s held by power."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(
        "harness.measure.telemetry.time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now)
    )

    def make(*visits, pause_s=0.0):
        with Telemetry("cuda") as telemetry:
            for role, seconds, mhz, held_s in visits:
                clock.now += seconds + pause_s
                nvml.clocks_mhz[pynvml.NVML_CLOCK_SM] = mhz
                nvml.held_down_ns[pynvml.NVML_PERF_POLICY_POWER] += round(held_s * 1e9)
                telemetry.read(role, restart=0, block=0, visit_s=seconds)
        return telemetry

    return make


def test_clock_and_power_limit_are_told_of_the_cell_that_met_them(visited):
    telemetry = visited(
        ("baseline", 0.5, 1980, 0.0), ("hw", 0.5, 1900, 0.4), ("baseline", 0.5, 1976, 0.0), ("hw", 0.5, 1908, 0.3)
    )
    assert telemetry.by_cell("hw") == pytest.approx(
        {"gpu/clock_mhz": 1904.0, "gpu/power_capped": 0.7, "gpu/thermal_capped": 0.0}
    )
    assert telemetry.by_cell("baseline")["gpu/clock_mhz"] == 1978.0
    assert telemetry.by_cell("baseline")["gpu/power_capped"] == 0.0
    assert telemetry.by_cell("arch") == {}
    assert "gpu/power_capped" not in telemetry.metrics()  # without a prefix it is the combined cell's


def test_what_held_the_clock_down_in_a_pause_is_no_cells(visited):
    assert "gpu/power_capped" not in visited(*[("hw", 0.5, 1900, 0.4)] * 3, pause_s=2.0).by_cell("hw")


def test_more_than_all_of_the_time_is_all_of_it(visited):
    """NVML moves its counters at times of its own: a visit may see those of the one before."""
    assert visited(*[("hw", 0.5, 1900, 0.9)] * 3).by_cell("hw")["gpu/power_capped"] == 1.0


def test_a_driver_that_does_not_integrate_tells_the_clock_alone(visited, nvml):
    nvml.held_down_ns = dict.fromkeys(nvml.held_down_ns, NOT_SUPPORTED)
    with Telemetry("cuda") as telemetry:
        assert telemetry.capped_s() == {}
    assert Telemetry("cpu").capped_s() == {} and Telemetry("cpu").sm_clock_mhz() is None


def test_the_reasons_that_are_integrated_exist_in_nvml_under_these_names():
    assert {name: getattr(pynvml, policy) for name, policy in CAPS.items()} == {"power": 0, "thermal": 1}
