"""What a cell took becomes metrics under its role, and the loads without pauses give a factor of their own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.measure.telemetry import Consumption, Sustained
from harness.results.cells import calibration_notes, clock_metrics, consumption_metrics, precision_counts
from harness.results.metrics import find_metric
from harness.stats.roles import ROLES
from harness.techniques.hw.int8 import INT8
from harness.techniques.levels import Calibration


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


def quantised(data: object, *proofs: dict[str, object]) -> SimpleNamespace:
    levels = SimpleNamespace(precision=INT8, calibration=Calibration("entropy", None, 128))
    return SimpleNamespace(
        levels=levels, labelled=data, sample="image", artifacts=[SimpleNamespace(proof=proof) for proof in proofs]
    )


def test_a_row_says_what_int8_was_calibrated_on_and_which_layers_have_it():
    stages = [
        {"layers_in_precision": 4, "layers_weighted": 5, "layers_in_float": "1 first layer"},
        {"layers_in_precision": 3, "layers_weighted": 4, "layers_in_float": "1 last layer"},
    ]
    off = SimpleNamespace(levels=SimpleNamespace(calibration=None))
    layers = "hw: int8 in 7 of 9 convolutions and products; in float: 1 first layer; 1 last layer"
    synthetic = {"baseline": off, "hw": quantised(None, *stages)}
    assert precision_counts(synthetic["hw"]) == (7, 9)
    assert calibration_notes(synthetic) == [
        "int8: its scales are of synthetic images, they say nothing about accuracy",
        layers,
    ]
    real = SimpleNamespace(calibration_images=lambda at_most: [3])
    assert calibration_notes({"hw": quantised(real, *stages)}) == [
        "int8: calibrated on 1 validation image (entropy)",
        layers,
    ]


def test_a_cell_whose_engine_counts_no_layers_has_none():
    assert precision_counts(quantised(None, {"nodes": 5})) is None
