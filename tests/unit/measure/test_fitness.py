"""Before a sweep: one line where somebody else uses the machine, or something holds it back."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
from simulated_nvml import SimulatedNvml

from harness.measure import fitness
from harness.measure.fitness import warning


@pytest.fixture
def gpu(monkeypatch):
    nvml = SimulatedNvml()
    nvml.answers |= {
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=0, memory=0),
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
        "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
    }
    nvml.install(monkeypatch)
    return nvml


@pytest.fixture(autouse=True)
def quiet_cpu(monkeypatch):
    monkeypatch.setattr(fitness, "usable_cores", lambda: 4)
    monkeypatch.setattr(psutil, "getloadavg", lambda: (0.3, 5.0, 5.0))


def test_a_quiet_machine_is_no_news(gpu):
    assert warning("cpu") == warning("cuda") == ""
    assert gpu.opened == 0


def test_a_load_is_named_with_the_cores_it_is_on(monkeypatch):
    monkeypatch.setattr(psutil, "getloadavg", lambda: (6.54, 0.0, 0.0))
    assert warning("cpu") == ("This machine is busy (load 6.5 on 4 cores): intervals may be too wide to decide.")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=1)]}, "1 other process on the GPU"),
        ({"nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=93, memory=0)}, "the GPU is 93% in use"),
        ({"nvmlDeviceGetEnforcedPowerLimit": 300_000}, "its power limit is 300 of 700 W"),
    ],
)
def test_what_holds_a_gpu_back_is_named(gpu, answer, said):
    gpu.answers |= answer
    assert said in warning("cuda")
    assert warning("cpu") == ""
    assert gpu.opened == 0


def test_a_gpu_that_can_not_be_asked_disturbs_nothing(gpu):
    import pynvml

    gpu.answers["nvmlDeviceGetUtilizationRates"] = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert warning("cuda") == ""
    assert gpu.opened == 0
