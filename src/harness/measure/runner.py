"""One batch through one cell: a whole network in one call, or two stages with the survivors compacted between.

What is inside `run()` is inside the clock. Nothing here allocates on the hot path except what the decision of
an early exit needs (a few numbers a sample), because that is part of the technique.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from harness.arch.exit_policy import ExitPolicy, exit_mask, survivor_indices
from harness.engines.base import Executable
from harness.errors import CellError
from harness.measure.cell import CellOutputs


class Runner(Protocol):
    """One cell's batch."""

    def run(self) -> None:
        """Run one batch to completion."""

    def verify(self, inputs: np.ndarray) -> CellOutputs:
        """Run `inputs` [batch, ...] into poisoned buffers; return all heads for all samples."""

    def write(self, inputs: np.ndarray) -> None:
        """Put `inputs` [batch, ...] where the next `run()` reads them."""


class WholeRunner:
    """A network in one stage."""

    def __init__(self, executable: Executable, batch_size: int) -> None:
        self._executable = executable
        self._batch_size = batch_size
        self._input = executable.input_specs[0].name

    def write(self, inputs: np.ndarray) -> None:
        """Copy the inputs into the engine's buffer."""
        self._executable.write_inputs({self._input: inputs})

    def run(self) -> None:
        """Enqueue and wait."""
        self._executable.enqueue(self._batch_size)
        self._executable.synchronize()

    def verify(self, inputs: np.ndarray) -> CellOutputs:
        """Return what the engine computes for `inputs`."""
        self.write(inputs)
        self._executable.poison_outputs()
        self.run()
        logits = _checked(self._executable.outputs(self._batch_size), "logits")
        return CellOutputs(heads={"logits": logits}, final=logits)


class EarlyExitRunner:
    """Two stages; samples that are sure enough leave after the first, the others are packed together."""

    def __init__(self, stage1: Executable, stage2: Executable, policy: ExitPolicy, batch_size: int) -> None:
        self._stage1, self._stage2 = stage1, stage2
        self._policy, self._batch_size = policy, batch_size
        self._input = stage1.input_specs[0].name
        self._features = stage2.input_specs[0].name
        classes = next(s for s in stage1.output_specs if s.name == "exit_logits").shape[1]
        dtype = next(s for s in stage1.output_specs if s.name == "exit_logits").dtype
        self._final = np.zeros((batch_size, classes), dtype=dtype)

    def write(self, inputs: np.ndarray) -> None:
        """Copy the inputs into the first stage's buffer."""
        self._stage1.write_inputs({self._input: inputs})

    def run(self) -> None:
        """First stage, decision, compaction, second stage on the survivors, results in the samples' order."""
        self._stage1.enqueue(self._batch_size)
        self._stage1.synchronize()
        first = self._stage1.output_buffers()
        logits = first["exit_logits"][: self._batch_size]
        stay = survivor_indices(logits, self._policy)
        np.copyto(self._final, _host(logits), casting="same_kind")
        if len(stay):
            self._pack(first["features"], stay)
            self._stage2.enqueue(len(stay))
            self._stage2.synchronize()
            self._final[_host(stay)] = _host(self._stage2.output_buffers()["logits"])[: len(stay)]

    def _pack(self, features: Any, stay: Any) -> None:
        target = self._stage2.input_buffers()[self._features]
        if isinstance(features, np.ndarray):
            # mode="clip" lets numpy write straight into `out`; "raise" would go through a temporary
            np.take(features, stay, axis=0, out=target[: len(stay)], mode="clip")
        else:
            import torch

            torch.index_select(features, 0, stay, out=target[: len(stay)])

    def verify(self, inputs: np.ndarray) -> CellOutputs:
        """Return both heads for all samples, then what a real run gives and who left in it."""
        self.write(inputs)
        self._stage1.poison_outputs()
        self._stage1.enqueue(self._batch_size)
        self._stage1.synchronize()
        exit_logits = _checked(self._stage1.outputs(self._batch_size), "exit_logits")
        features = self._stage1.outputs(self._batch_size)["features"]
        logits = self._second_stage_of_all(features)
        self._final.fill(np.nan)
        self.run()
        final = _checked({"final": self._final.copy()}, "final")
        mask = exit_mask(exit_logits, self._policy)
        return CellOutputs(heads={"exit_logits": exit_logits, "logits": logits}, final=final, exited=mask)

    def _second_stage_of_all(self, features: np.ndarray) -> np.ndarray:
        """Push every sample through the second stage, in portions as large as its engine takes."""
        portion = len(next(iter(self._stage2.input_buffers().values())))
        parts = []
        for start in range(0, len(features), portion):
            chunk = features[start : start + portion]
            padded = np.resize(chunk, (portion, *chunk.shape[1:]))  # repeats samples: a static engine wants all
            self._stage2.write_inputs({self._features: padded})
            self._stage2.poison_outputs()
            self._stage2.enqueue(portion)
            self._stage2.synchronize()
            parts.append(_checked(self._stage2.outputs(portion), "logits")[: len(chunk)])
        return np.concatenate(parts)


def make_runner(executables: tuple[Executable, ...], policy: ExitPolicy | None, batch_size: int) -> Runner:
    """Return the runner that fits the number of stages."""
    if len(executables) == 1:
        return WholeRunner(executables[0], batch_size)
    if len(executables) == 2 and policy is not None:
        return EarlyExitRunner(executables[0], executables[1], policy, batch_size)
    raise ValueError(f"{len(executables)} stages with policy {policy}: expected one, or two with a policy")


def _host(buffer: Any) -> np.ndarray:
    array: np.ndarray = buffer if isinstance(buffer, np.ndarray) else buffer.cpu().numpy()
    return array


def _checked(outputs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return one output as float32; an element that was never written, or is no number, has no speed."""
    array = outputs[name].astype(np.float32)
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise CellError(f"wrong output: {bad} of {array.size} values of {name!r} are not finite or were never written")
    return array
