"""The GPU is this session's alone: no sweep is timed on it meanwhile, and the tests start when none is."""

from __future__ import annotations

import pytest

from harness.measure.lock import device_id, occupied


@pytest.fixture(scope="session", autouse=True)
def alone_on_the_gpu(locks_of_everybody):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_LOCK_DIR", str(locks_of_everybody))
        held = occupied(device_id("cuda"))
        held.__enter__()
    try:
        yield
    finally:
        held.__exit__(None, None, None)


@pytest.fixture(scope="session")
def swept(swept_apart):
    """Sweeps on a GPU are processes of their own: this one has a context there, with memory and kernels of its own."""
    return swept_apart
