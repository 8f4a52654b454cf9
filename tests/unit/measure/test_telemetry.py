"""Telemetry: readings between slices, and blocks of a chip that slowed down are forgotten."""

from __future__ import annotations

import math
import os
import time

import pytest

from harness.measure.cell import Slice
from harness.measure.samples import Samples
from harness.measure.telemetry import Telemetry


def test_a_reading_names_its_cell_and_block_and_sees_the_host():
    with Telemetry("cpu") as telemetry:
        assert telemetry.read("arch", restart=1, block=4) is False
    (row,) = telemetry.rows
    assert (row["cell"], row["restart"], row["block"]) == ("arch", 1, 4)
    assert 0 < row["host_memory_percent"] <= 100
    assert not any(name.startswith("gpu") for name in row)
    assert telemetry.metrics()["host/memory_percent"] == row["host_memory_percent"]


def test_a_reading_says_when_its_visit_ended_and_how_long_it_took():
    with Telemetry("cpu") as telemetry:
        before = time.time()
        telemetry.read("arch", restart=0, block=0, visit_s=1.25)
    (row,) = telemetry.rows
    assert row["visit_s"] == 1.25
    assert before <= row["unix_s"] <= time.time()
    assert set(telemetry.metrics()) == {"host/cpu_percent", "host/memory_percent"}


def test_a_cpu_has_no_energy_counter_and_no_memory_of_its_own():
    with Telemetry("cpu") as telemetry:
        assert telemetry.joules() is None
        assert telemetry.device_memory_mb(os.getpid()) is None
        assert telemetry.blind == ""


def test_a_gpu_whose_readings_can_not_be_had_is_told_and_measured_all_the_same(monkeypatch):
    pynvml = pytest.importorskip("pynvml")

    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    with Telemetry("cuda") as telemetry:
        assert telemetry.read("hw", restart=0, block=0) is False
        assert (telemetry.joules(), telemetry.device_memory_mb(os.getpid())) == (None, None)
    assert telemetry.blind == "NVML can't be read (Driver Not Loaded): a throttled block would not be noticed"
    assert not any(name.startswith("gpu") for name in telemetry.rows[0])


def test_means_are_over_readings_but_the_temperature_is_the_hottest():
    telemetry = Telemetry("cpu")
    telemetry.rows = [
        {"cell": "hw", "gpu_power_w": 100.0, "gpu_temperature_c": 50.0},
        {"cell": "hw", "gpu_power_w": 300.0, "gpu_temperature_c": 70.0},
        {"cell": "hw", "gpu_power_w": math.nan, "gpu_temperature_c": math.nan},
    ]
    assert telemetry.metrics() == {"gpu/power_w": 200.0, "gpu/temperature_c": 70.0}


def test_a_discarded_block_leaves_no_sample_and_is_counted():
    samples = Samples(["baseline"], batch_size=2)
    samples.add("baseline", 0, 0, 0, Slice({"wall": [10.0]}))
    samples.discard_block()
    samples.add("baseline", 0, 0, 0, Slice({"wall": [20.0, 20.0]}))
    samples.close_block(restart=0)
    assert (samples.blocks, samples.discarded) == (1, 1)
    assert samples.throughput("wall").tolist() == [[100.0]]
    assert samples.milliseconds("baseline", "wall").tolist() == [20.0, 20.0]
    assert len(samples.frame()) == 2
