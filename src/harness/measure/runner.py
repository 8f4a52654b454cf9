"""One batch through one cell: a whole network in one call, or two stages with the survivors packed between.

What is inside `launch()` is inside the clock. Nothing there allocates on a CPU but the few numbers a sample that an
exit's decision takes, and on a GPU nothing waits for the host where a fixed share leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np

from harness.engines.base import Executable
from harness.system.errors import CellError
from harness.techniques.arch.exit_policy import ExitPolicy, survivor_indices
from harness.techniques.arch.outputs import CellOutputs


class Runner(Protocol):
    """One cell's batch."""

    stream: Any  # torch CUDA stream that the last work of a batch is on; None on a CPU
    input_buffer: Any  # [max batch, ...]

    @property
    def result(self) -> Any:
        """The answers of the last batch, [batch, classes]."""

    def launch(self) -> None:
        """Enqueue one batch as a caller would."""

    def wait(self) -> None:
        """Wait until it is done."""

    def capture(self) -> str | None:
        """Make `replay` possible; return None, or the reason why it is not."""

    def replay(self) -> None:
        """Enqueue one batch from captured graphs, without the host in between."""

    def poison(self) -> None:
        """Fill everything that the last batch wrote for a caller or a later stage with NaN."""

    def verify(self, inputs: np.ndarray) -> CellOutputs:
        """Run `inputs` [batch, ...] into poisoned buffers; return all heads for all samples."""

    def write(self, inputs: np.ndarray) -> None:
        """Put `inputs` [batch, ...] where the next `launch()` reads them."""


class WholeRunner:
    """A network in one stage."""

    def __init__(self, executable: Executable, batch_size: int) -> None:
        self._executable = executable
        self._batch_size = batch_size
        self._input = executable.input_specs[0].name
        self.stream = executable.stream
        self.input_buffer = executable.input_buffers()[self._input]

    @property
    def result(self) -> Any:
        """The logits of the last batch."""
        return self._executable.output_buffers()["logits"][: self._batch_size]

    def write(self, inputs: np.ndarray) -> None:
        """Copy the inputs into the engine's buffer."""
        self._executable.write_inputs({self._input: inputs})
        self._executable.synchronize()

    def launch(self) -> None:
        """Enqueue one batch."""
        self._executable.enqueue(self._batch_size)

    def wait(self) -> None:
        """Wait for the engine."""
        self._executable.synchronize()

    def capture(self) -> str | None:
        """Capture the batch."""
        return self._executable.capture(self._batch_size)

    def replay(self) -> None:
        """Replay the batch."""
        self._executable.replay(self._batch_size)

    def poison(self) -> None:
        """Fill the outputs."""
        _fill(self._executable.output_buffers().values())

    def verify(self, inputs: np.ndarray) -> CellOutputs:
        """Return what the engine computes for `inputs`."""
        self.write(inputs)
        self._executable.poison_outputs()
        self.launch()
        self.wait()
        logits = _checked(self._executable.outputs(self._batch_size)["logits"], "logits")
        return CellOutputs(heads={"logits": logits}, final=logits)


class EarlyExitRunner:
    """Two stages; samples that are sure enough leave after the first, the others are packed together."""

    def __init__(self, stage1: Executable, stage2: Executable, policy: ExitPolicy, batch_size: int) -> None:
        self._stage1, self._stage2 = stage1, stage2
        self._policy, self._batch_size = policy, batch_size
        self._stayed: Any = ()  # who stayed in the last run, ascending
        self._input = stage1.input_specs[0].name
        self._features = stage2.input_specs[0].name
        self.stream = stage2.stream
        self.input_buffer = stage1.input_buffers()[self._input]
        self._stage2_input = stage2.input_buffers()[self._features]
        spec = next(s for s in stage1.output_specs if s.name == "exit_logits")
        shape = (batch_size, spec.shape[1])
        if isinstance(self.input_buffer, np.ndarray):
            self.result: Any = np.zeros(shape, dtype=spec.dtype)
        else:
            import torch

            self.result = torch.zeros(shape, dtype=getattr(torch, spec.dtype), device=self.input_buffer.device)

    def write(self, inputs: np.ndarray) -> None:
        """Copy the inputs into the first stage's buffer."""
        self._stage1.write_inputs({self._input: inputs})
        self._stage1.synchronize()

    def launch(self) -> None:
        """First stage, decision, packing, second stage on the survivors, results in the samples' order."""
        self._order(self._stage1, after=self._stage2)  # the last batch's survivors have been read
        self._stage1.enqueue(self._batch_size)
        stay = self._decide()
        if len(stay):
            self._stage2.enqueue(len(stay))
            self._unpack(stay)

    def replay(self) -> None:
        """Run the same with both stages replayed."""
        self._order(self._stage1, after=self._stage2)
        self._stage1.replay(self._batch_size)
        stay = self._decide()
        if len(stay):
            self._stage2.replay(len(stay))
            self._unpack(stay)

    def capture(self) -> str | None:
        """Capture both stages, the second for its known number of survivors."""
        if self._policy.decision != "share":
            return "how many samples survive a threshold is known only to the host"
        survivors = self._policy.survivors(self._batch_size)
        reason = self._stage1.capture(self._batch_size)
        return reason or (self._stage2.capture(survivors) if survivors else None)

    def _decide(self) -> Any:
        """Return who stays, ascending; the features of those are packed into the second stage's input."""
        self._order(self._stage2, after=self._stage1)
        with _on(self.stream):
            first = self._stage1.output_buffers()
            logits = first["exit_logits"][: self._batch_size]
            stay = self._stayed = survivor_indices(logits, self._policy)
            if isinstance(self.result, np.ndarray):
                np.copyto(self.result, logits, casting="same_kind")
                if len(stay):  # mode="clip" lets numpy write straight into `out`; "raise" goes through a temporary
                    np.take(first["features"], stay, axis=0, out=self._stage2_input[: len(stay)], mode="clip")
            else:
                import torch

                self.result.copy_(logits)
                if len(stay):
                    torch.index_select(first["features"], 0, stay, out=self._stage2_input[: len(stay)])
        return stay

    def _unpack(self, stay: Any) -> None:
        with _on(self.stream):
            logits = self._stage2.output_buffers()["logits"][: len(stay)]
            if isinstance(self.result, np.ndarray):
                self.result[stay] = logits
            else:
                self.result.index_copy_(0, stay, logits.to(self.result.dtype))

    @staticmethod
    def _order(later: Executable, after: Executable) -> None:
        if later.stream is not None and later.stream != after.stream:
            later.stream.wait_stream(after.stream)

    def wait(self) -> None:
        """Wait for both stages."""
        self._stage1.synchronize()
        self._stage2.synchronize()

    def poison(self) -> None:
        """Fill both stages' outputs, the second one's inputs and the result."""
        stages = (*self._stage1.output_buffers().values(), *self._stage2.output_buffers().values())
        _fill((*stages, self._stage2_input, self.result))

    def verify(self, inputs: np.ndarray) -> CellOutputs:
        """Return both heads for all samples, then what a real run gives and who left in it."""
        self.write(inputs)
        self._stage1.poison_outputs()
        self._stage1.enqueue(self._batch_size)
        self._stage1.synchronize()
        first = self._stage1.outputs(self._batch_size)
        exit_logits = _checked(first["exit_logits"], "exit_logits")
        logits = self._second_stage_of_all(_checked(first["features"], "features").astype(first["features"].dtype))
        _fill([self.result])
        self.launch()
        self.wait()
        final = self.result.copy() if isinstance(self.result, np.ndarray) else self.result.cpu().numpy()
        stay = self._stayed if isinstance(self._stayed, np.ndarray) else self._stayed.cpu().numpy()
        mask = np.ones(self._batch_size, dtype=bool)
        mask[stay] = False  # by the run's own decision: another library's softmax parts near ties otherwise
        heads = {"exit_logits": exit_logits, "logits": logits}
        return CellOutputs(heads=heads, final=_checked(final, "final"), exited=mask)

    def _second_stage_of_all(self, features: np.ndarray) -> np.ndarray:
        """Push every sample through the second stage, in portions as large as its engine takes."""
        portion = len(self._stage2_input)
        parts = []
        for start in range(0, len(features), portion):
            chunk = features[start : start + portion]
            padded = np.resize(chunk, (portion, *chunk.shape[1:]))  # repeats samples: a static engine wants all
            self._stage2.write_inputs({self._features: padded})
            self._stage2.poison_outputs()
            self._stage2.enqueue(portion)
            self._stage2.synchronize()
            parts.append(_checked(self._stage2.outputs(portion)["logits"], "logits")[: len(chunk)])
        return np.concatenate(parts)


def make_runner(executables: tuple[Executable, ...], policy: ExitPolicy | None, batch_size: int) -> Runner:
    """Return the runner that fits the number of stages."""
    if len(executables) == 1:
        return WholeRunner(executables[0], batch_size)
    if len(executables) == 2 and policy is not None:
        return EarlyExitRunner(executables[0], executables[1], policy, batch_size)
    raise ValueError(f"{len(executables)} stages with policy {policy}: expected one, or two with a policy")


def _fill(buffers: Iterable[Any]) -> None:
    """Fill arrays or tensors with NaN."""
    for buffer in buffers:
        buffer.fill(np.nan) if isinstance(buffer, np.ndarray) else buffer.fill_(float("nan"))


def _on(stream: Any) -> Any:
    """Return a context in which torch enqueues on `stream`."""
    if stream is None:
        return nullcontext()
    import torch

    return torch.cuda.stream(stream)


def _checked(output: np.ndarray, name: str) -> np.ndarray:
    """Return an output as float32; an element that was never written, or is no number, has no speed."""
    array = output.astype(np.float32)
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise CellError(f"wrong output: {bad} of {array.size} values of {name!r} are not finite or were never written")
    return array
