"""How much longer batches take under load than alone, where every operation is launched from Python.

    python experiments/agreement/client_process.py [RATE_PER_S]

4,000 small operations of PyTorch a batch, alone for 1.5 s and then under LoadGen's requests for 3 s, six times in turn.
With LoadGen on a thread of the server's process (before 2026-11-28) the same script gave 1.34, 1.34 and 1.38 on two
shared cores at 3,000 requests/s, with LoadGen in a process of its own 1.06, 1.06 and 1.11.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from harness.engines.base import TensorSpec
from harness.serving.client import LoadTest
from harness.serving.loadgen import run_test
from harness.serving.policy import BatchPolicy
from harness.serving.work import Work
from harness.techniques.arch.stages import ONE_STAGE

LARGEST, OPERATIONS, ALONE_S, TURNS = 64, 4000, 1.5, 6


class Launched:
    """An executable whose batch is a series of launches."""

    input_specs = (TensorSpec("input", (-1, 1), "float32"),)
    output_specs = (TensorSpec("logits", (-1, 1), "float32"),)
    stream = None

    def __init__(self) -> None:
        self._in, self._out = (np.zeros((LARGEST, 1), np.float32) for _ in range(2))
        self._tensor = torch.zeros(LARGEST)

    def input_buffers(self) -> dict[str, np.ndarray]:
        """Return what a batch is read from."""
        return {"input": self._in}

    def output_buffers(self) -> dict[str, np.ndarray]:
        """Return what it is written to."""
        return {"logits": self._out}

    def enqueue(self, batch_size: int) -> None:
        """Launch one batch; its size costs nothing."""
        with torch.inference_mode():
            for _ in range(OPERATIONS):
                torch.relu(self._tensor)


def main(rate_per_s: float) -> None:
    """Print both times of each turn and the geometric mean of their ratios."""
    torch.set_num_threads(1)
    engine = Launched()
    engine.enqueue(1)
    logs = []
    for seed in range(TURNS):
        alone_s = []
        end = time.perf_counter() + ALONE_S
        while time.perf_counter() < end:
            began = time.perf_counter()
            engine.enqueue(1)
            alone_s.append(time.perf_counter() - began)
        work = Work([engine], [BatchPolicy(LARGEST)], ONE_STAGE, {"input": np.zeros((LARGEST, 1), np.float32)})
        test = LoadTest("server", rate_per_s, min_duration_s=3.0, max_duration_s=10.0, min_queries=1000, seed=seed)
        run_test(test, work)
        loaded_s = [run.completed_s - run.started_s for run in work.runs]
        logs.append(np.log(np.mean(loaded_s) / np.mean(alone_s)))
        print(f"alone {np.mean(alone_s) * 1e3:.1f} ms, under load {np.mean(loaded_s) * 1e3:.1f} ms")
    print(f"{np.exp(np.mean(logs)):.2f} times as long")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3000.0)
