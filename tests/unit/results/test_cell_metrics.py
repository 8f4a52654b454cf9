"""What a cell took becomes metrics under its role, and the loads without pauses give a factor of their own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.measure.telemetry import Consumption, Sustained
from harness.results.cells import clock_metrics, consumption_metrics
from harness.results.metrics import find_metric
from harness.stats.roles import ROLES


def consumed(**speeds):
    sustained = {role: Sustained(ips, 0.5, 1900.0, {"power": 0.25}) for role, ips in speeds.items()}
    return {role: SimpleNamespace(consumption=Consumption(0.5, 900.0, 800.0, one)) for role, one in sustained.items()}


def test_the_sustained_factor_is_that_of_the_four_sustained_throughputs():
    found = consumption_metrics(consumed(baseline=100.0, arch=150.0, hw=300.0, combined=360.0))
    assert found["interaction/sustained_factor"] == pytest.approx(0.8)
    assert (found["throughput/sustained"], found["hw/throughput/sustained"]) == (360.0, 300.0)
    assert (found["arch/gpu/sustained_clock_mhz"], found["arch/gpu/sustained_power_capped"]) == (1900.0, 0.25)
    assert "gpu/sustained_thermal_capped" not in found
    assert {name for name in found if find_metric(name) is None} == set()


def test_without_all_four_there_is_no_sustained_factor():
    assert "interaction/sustained_factor" not in consumption_metrics(consumed(baseline=100.0, hw=150.0))
    no_load = dict.fromkeys(ROLES, SimpleNamespace(consumption=Consumption(host_memory_mb=800.0)))
    assert set(consumption_metrics(no_load)) == {
        "host/peak_memory_mb", *(f"{role}/host/peak_memory_mb" for role in ROLES if role != "combined")
    }  # fmt: skip


def test_each_cells_clock_is_under_its_role():
    telemetry = SimpleNamespace(by_cell=lambda role: {"gpu/clock_mhz": 1900.0} if role != "arch" else {})
    assert clock_metrics(telemetry, ROLES) == {
        "baseline/gpu/clock_mhz": 1900.0, "hw/gpu/clock_mhz": 1900.0, "gpu/clock_mhz": 1900.0,
    }  # fmt: skip
    assert clock_metrics(None, ROLES) == {}
