"""Two stages of a cell that tell, in order, what was asked of them and which stream waited for which.

Their buffers are arrays, or the CPU's tensors where a simulated GPU is given; they compute at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from simulated_gpu import SimulatedStream

from harness.engines.base import TensorSpec

BATCH, CLASSES = 6, 4


@dataclass
class Stage:
    """An executable whose outputs are its input, some of them negated; `log` is what all stages did, in order."""

    name: str
    outputs_by_sign: dict[str, float]
    rows: int
    log: list[tuple[Any, ...]]
    gpu: Any = None
    stream: Any = None
    refuses: str | None = None
    degraded: tuple[str, ...] = ()
    captured: list[int] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)  # of outputs; float32 if not named here
    reads: str = "input"  # the name of its input

    def __post_init__(self) -> None:
        self._in = {self.reads: self._zeros("float32")}
        self._out = {name: self._zeros(self.types.get(name, "float32")) for name in self.outputs_by_sign}
        self.input_specs = (TensorSpec(self.reads, (-1, CLASSES), "float32"),)
        self.output_specs = tuple(
            TensorSpec(name, (-1, CLASSES), self.types.get(name, "float32")) for name in self.outputs_by_sign
        )

    def _zeros(self, dtype: str) -> Any:
        shape = (self.rows, CLASSES)
        return np.zeros(shape, dtype) if self.gpu is None else torch.zeros(shape, dtype=getattr(torch, dtype))

    def input_buffers(self) -> dict[str, Any]:
        return self._in

    def output_buffers(self) -> dict[str, Any]:
        if self.gpu is not None:
            self.log.append(("read", self.name, self.gpu.current))
        return self._out

    def write_inputs(self, arrays: dict[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            self._in[name][: len(array)] = array if self.gpu is None else torch.from_numpy(array)

    def poison_outputs(self) -> None:
        for buffer in self._out.values():
            buffer[:] = float("nan")

    def enqueue(self, count: int) -> None:
        self.log.append(("enqueue", self.name, count))
        self._run(count)

    def _run(self, count: int) -> None:
        for name, sign in self.outputs_by_sign.items():
            self._out[name][:count] = sign * self._in[self.reads][:count]

    def capture(self, count: int) -> str | None:
        if self.refuses is None:
            self.captured.append(count)
        return self.refuses

    def replay(self, count: int) -> None:
        assert count in self.captured, f"{self.name} has no graph of {count} samples"
        self.log.append(("replay", self.name, count))
        self._run(count)

    def synchronize(self) -> None:
        self.log.append(("synchronize", self.name))

    def outputs(self, count: int) -> dict[str, np.ndarray]:
        return {name: np.array(buffer[:count]) for name, buffer in self._out.items()}


class Stream(SimulatedStream):
    """Notes whom it waits for."""

    def __init__(self, gpu, name: str, log: list[tuple[Any, ...]]) -> None:
        super().__init__(gpu, name)
        self._log = log

    def wait_stream(self, other: SimulatedStream) -> None:
        self._log.append(("wait", self.name, other.name))


def two_stages(gpu=None, shared_stream: bool = False, log=None) -> tuple[Stage, Stage]:
    log = [] if log is None else log
    streams = (None, None) if gpu is None else (Stream(gpu, "first", log), Stream(gpu, "second", log))
    first = Stage("stage1", {"features": 1, "exit_logits": 1}, BATCH, log, gpu, streams[0])
    second_stream = streams[0] if shared_stream else streams[1]
    second = Stage("stage2", {"logits": -1}, BATCH, log, gpu, second_stream, reads="features")
    return first, second
