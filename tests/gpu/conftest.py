"""The GPU is this session's alone: no sweep is timed on it meanwhile, and the tests start when none is."""

from __future__ import annotations

import pytest

from harness.measure.lock import occupied
from harness.measure.seat import device_id


@pytest.fixture(scope="session", autouse=True)
def alone_on_the_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        yield
        return
    with occupied(device_id("cuda")):
        yield
