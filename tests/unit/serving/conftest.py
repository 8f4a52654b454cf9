"""A server of known speed, and real cells loaded in this process."""

from __future__ import annotations

import time
from contextlib import ExitStack

import numpy as np
import pytest

from harness.engines import get
from harness.engines.base import TensorSpec


class SleepingEngine:
    """An executable whose batch takes a known time and costs no core: the machine's load does not reach it."""

    def __init__(self, service_s: float, max_batch_size: int, fails: bool = False) -> None:
        self.service_s, self.fails = service_s, fails
        self.input_specs = (TensorSpec("input", (-1, 1), "float32"),)
        self.output_specs = (TensorSpec("logits", (-1, 1), "float32"),)
        self.stream = None
        self._in, self._out = (np.zeros((max_batch_size, 1), np.float32) for _ in range(2))

    def input_buffers(self):
        return {"input": self._in}

    def output_buffers(self):
        return {"logits": self._out}

    def enqueue(self, batch_size):
        if self.fails:
            raise RuntimeError("out of memory")
        time.sleep(self.service_s)
        self._out[:batch_size] = 2 * self._in[:batch_size]


@pytest.fixture(scope="session")
def sleeping():
    """Return a function: sleeping(0.005, 4) -> an engine that takes 5 ms for up to 4 samples and doubles them."""
    return SleepingEngine


@pytest.fixture(scope="session")
def numbers():
    """Return 64 one-number images."""
    return np.arange(64, dtype=np.float32).reshape(64, 1)


@pytest.fixture(scope="module")
def loaded(prepared):
    """Return a function: loaded("arch=early_exit") -> (plan, cell, executables) of its last cell, really loaded."""
    with ExitStack() as stack:

        def load(*overrides):
            plan, cells = prepared("reference=engine", "engine.threads=1", *overrides)
            cell = list(cells.values())[-1]
            executables = [stack.enter_context(get(one.plan.engine).load(one, "cpu")) for one in cell.artifacts]
            return plan, cell, executables

        yield load
