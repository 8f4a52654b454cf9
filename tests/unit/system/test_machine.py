"""Whether there is a GPU is known without torch, or said to be unknown."""

from __future__ import annotations

import pynvml
import pytest

from harness.system import machine


def raising(*_):
    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


@pytest.fixture
def nvml(monkeypatch):
    """Return a function: nvml(2) -> NVML sees so many GPUs; None: it can't be used."""

    def see(count):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(pynvml, "nvmlInit", raising if count is None else lambda: None)
        monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: count)

    return see


@pytest.mark.parametrize(("count", "found"), [(2, True), (0, False)])
def test_nvml_says_whether_there_is_a_gpu(nvml, count, found):
    nvml(count)
    assert machine.has_cuda_gpu() is found


@pytest.mark.parametrize("hidden", ["", " ", "-1", "-1,0"])
def test_gpus_that_are_hidden_are_none(nvml, monkeypatch, hidden):
    nvml(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert machine.has_cuda_gpu() is False


def test_without_nvml_only_a_machine_without_a_driver_surely_has_none(nvml, monkeypatch):
    nvml(None)
    monkeypatch.setattr(machine, "_DRIVER", "no-such-library.so")
    monkeypatch.setattr(machine, "_ROCM", "/nowhere")
    assert machine.has_cuda_gpu() is False
    monkeypatch.setattr(machine, "_DRIVER", "libc.so.6")  # one that loads
    assert machine.has_cuda_gpu() is None
    monkeypatch.setattr(machine, "_DRIVER", "no-such-library.so")
    monkeypatch.setattr(machine, "_ROCM", "/")
    assert machine.has_cuda_gpu() is None
