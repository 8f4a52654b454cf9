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
