"""What tests of measuring share."""

from __future__ import annotations

import pytest


@pytest.fixture
def gpu(monkeypatch):
    """Return a simulated GPU that the code under test takes for the real one."""
    from simulated_gpu import SimulatedGpu

    found = SimulatedGpu()
    found.install(monkeypatch)
    return found


@pytest.fixture
def nvml(monkeypatch):
    """Return a simulated NVML that the code under test takes for the real one; no GPU is chosen."""
    pytest.importorskip("pynvml")
    from simulated_nvml import SimulatedNvml

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = SimulatedNvml()
    found.install(monkeypatch)
    return found
