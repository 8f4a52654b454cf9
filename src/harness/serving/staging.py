"""How samples, features and answers travel: to the first stage, between two stages, and back to the host."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from harness.engines.base import Executable
from harness.techniques.arch.stages import Router


class Staging(Protocol):
    """Samples of the requests that were taken from the queue and not run yet, in their order."""

    def add(self, samples: Sequence[int]) -> None:
        """Take in the samples of further requests, by number."""

    def load(self, count: int) -> None:
        """Put the first `count` into the engine's input, ordered before what is enqueued next, and forget them."""

    def clear(self) -> None:
        """Forget all."""


class Answers(Protocol):
    """The results of one batch on their way to the host."""

    rows: Any  # [batch, ...], valid once `ready`

    def fetch(self, result: Any, count: int) -> None:
        """Begin to bring the first `count` rows of `result` to the host, after all that is enqueued."""

    def ready(self) -> bool:
        """Whether they are there."""


class HostStaging:
    """On a CPU samples are copied straight into the engine's inputs when their batch begins."""

    def __init__(self, samples: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        """Take all samples [S, ...] and the engine's inputs [max batch, ...], by name."""
        self._pairs = [(samples[name], buffer) for name, buffer in buffers.items()]
        self._rows: list[int] = []

    def add(self, samples: Sequence[int]) -> None:
        """Remember which."""
        self._rows.extend(samples)

    def load(self, count: int) -> None:
        """Copy the first `count`; rows beyond them keep what they had and are padding."""
        rows, self._rows = self._rows[:count], self._rows[count:]
        for samples, buffer in self._pairs:
            np.take(samples, rows, axis=0, out=buffer[:count], mode="clip")

    def clear(self) -> None:
        """Forget all."""
        self._rows = []


class HostAnswers:
    """On a CPU a batch is done when its call returns."""

    rows: np.ndarray

    def fetch(self, result: np.ndarray, count: int) -> None:
        """Copy the rows: the engine's buffer is the next batch's."""
        self.rows = result[:count].copy()

    def ready(self) -> bool:
        """Whether they are there: always."""
        return True


class DeviceStaging:
    """Samples in pinned memory, copied to the device on a stream of their own while the batch before them computes.

    Two sets of rows on the device: the one that is being filled, and the one the engine has read from. `load` is
    called only when no batch is in flight, so the set it turns to has been read. The samples are pinned where they
    lie, as a server's receive buffers would be: gathering them on the host first would cost a core more than the
    copies cost the bus.
    """

    def __init__(self, samples: Mapping[str, np.ndarray], buffers: Mapping[str, Any], stream: Any) -> None:
        """Take all samples [S, ...], the engine's input tensors [max batch, ...] and the stream it computes on."""
        import torch

        self._samples = [torch.from_numpy(samples[name]).pin_memory().unbind(0) for name in buffers]
        self._buffers, self._stream = list(buffers.values()), stream
        self._copies = torch.cuda.Stream()
        self._device = [[torch.empty_like(buffer) for buffer in self._buffers] for _ in range(2)]
        # once: an index costs as much as a copy's launch
        self._device_rows = [[rows.unbind(0) for rows in filled] for filled in self._device]
        torch.cuda.synchronize()  # made on another stream than the one that will write them
        self._rows: list[int] = []
        self._filling = 0

    def add(self, samples: Sequence[int]) -> None:
        """Begin to copy further samples to the device, behind those that are there."""
        import torch

        filled = self._device_rows[self._filling]
        with torch.cuda.stream(self._copies):
            for row, sample in enumerate(samples, start=len(self._rows)):
                for rows, values in zip(filled, self._samples, strict=True):
                    rows[row].copy_(values[sample], non_blocking=True)
        self._rows.extend(samples)

    def load(self, count: int) -> None:
        """Order the engine's stream behind the copies; whoever is left over moves to the other set."""
        import torch

        self._stream.wait_stream(self._copies)
        with torch.cuda.stream(self._stream):
            for buffer, filled in zip(self._buffers, self._device[self._filling], strict=True):
                buffer[:count].copy_(filled[:count], non_blocking=True)
        left = self._rows[count:]
        self._rows = []
        self._filling = 1 - self._filling
        if left:
            self.add(left)

    def clear(self) -> None:
        """Forget all; copies on their way end in a set that is written from its start again, in their order."""
        self._copies.synchronize()
        self._rows = []


class DeviceAnswers:
    """Results go to pinned host memory on the engine's stream, with an event behind them."""

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: Any, stream: Any) -> None:
        import torch

        self.rows = torch.empty((rows, *shape), dtype=dtype, pin_memory=True)
        self._stream = stream
        self._done = torch.cuda.Event()

    def fetch(self, result: Any, count: int) -> None:
        """Enqueue the copy."""
        import torch

        with torch.cuda.stream(self._stream):
            self.rows[:count].copy_(result[:count], non_blocking=True)
        self._done.record(self._stream)

    def ready(self) -> bool:
        """Ask the event, without waiting."""
        return bool(self._done.query())


class StagePool(Protocol):
    """Features of the samples that go on, in the order they came, on the device that computes."""

    logits: Any  # of the first stage's last batch, on the host once `decided`

    def decide(self, count: int) -> None:
        """Begin to decide about the first `count` samples of the first stage's outputs."""

    def decided(self) -> np.ndarray | None:
        """Return who leaves, [count] bool, or None while it is not known on the host."""

    def keep(self, stay: np.ndarray) -> None:
        """Pack the features of these samples of the first stage behind those that are there."""

    def load(self, count: int) -> None:
        """Put the first `count` into the second stage's input and forget them."""

    def host_sync_s(self) -> float:
        """Return how long the device was idle between the end of the first stage and the packing; after `keep`."""

    def clear(self) -> None:
        """Forget all."""


class HostStagePool:
    """On a CPU everything happens in the call; the decision's own time is what `host_sync_s` says."""

    def __init__(self, first: Executable, second: Executable, router: Router, number: int, capacity: int) -> None:
        self._first, self._router, self._number = first, router, number
        self._head, self._name = router.heads[number], second.input_specs[0].name
        self._input = second.input_buffers()[self._name]
        self._features = np.zeros((capacity, *self._input.shape[1:]), dtype=self._input.dtype)
        self._held, self._seconds = 0, 0.0
        self._mask: np.ndarray | None = None

    def decide(self, count: int) -> None:
        """Decide."""
        began = time.perf_counter()
        self.logits = self._first.output_buffers()[self._head][:count].copy()
        self._mask = self._router.leaves(self._number, self.logits)
        self._seconds = time.perf_counter() - began

    def decided(self) -> np.ndarray | None:
        """Return who leaves."""
        return self._mask

    def keep(self, stay: np.ndarray) -> None:
        """Copy the features of these."""
        target = self._features[self._held : self._held + len(stay)]
        np.take(self._first.output_buffers()[self._name], stay, axis=0, out=target, mode="clip")
        self._held += len(stay)

    def load(self, count: int) -> None:
        """Copy the first ones, move the others up."""
        self._input[:count] = self._features[:count]
        left = self._held - count
        self._features[:left] = self._features[count : self._held].copy()
        self._held = left

    def host_sync_s(self) -> float:
        """Return what the decision took."""
        return self._seconds

    def clear(self) -> None:
        """Forget all."""
        self._held = 0


class DeviceStagePool:
    """On a GPU: mask and exit logits go to pinned memory, then the host says whose features are packed."""

    def __init__(self, first: Executable, second: Executable, router: Router, number: int, capacity: int) -> None:
        import torch

        self._torch, self._first, self._router, self._number = torch, first, router, number
        self._head, self._name, self._stream = router.heads[number], second.input_specs[0].name, second.stream
        self._first_stream = first.stream if first.stream != second.stream else None
        self._input = second.input_buffers()[self._name]
        self._features = self._input.new_empty((capacity, *self._input.shape[1:]))
        spec = next(spec for spec in first.output_specs if spec.name == self._head)
        rows = len(first.input_buffers()[first.input_specs[0].name])
        self.logits = torch.empty((rows, spec.shape[1]), dtype=getattr(torch, spec.dtype), pin_memory=True)
        self._mask = torch.empty(rows, dtype=torch.bool, pin_memory=True)
        self._stay = torch.empty(rows, dtype=torch.int64, pin_memory=True)
        self._ended, self._resumed = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._known = torch.cuda.Event()
        self._held = self._count = 0
        torch.cuda.synchronize()

    def decide(self, count: int) -> None:
        """Enqueue decision and copies behind the first stage."""
        torch = self._torch
        if self._first_stream is not None:
            self._stream.wait_stream(self._first_stream)
        with torch.cuda.stream(self._stream), torch.inference_mode():
            self._ended.record(self._stream)
            logits = self._first.output_buffers()[self._head][:count]
            self._mask[:count].copy_(self._router.leaves(self._number, logits), non_blocking=True)
            self.logits[:count].copy_(logits, non_blocking=True)
            self._known.record(self._stream)
        self._count = count

    def decided(self) -> np.ndarray | None:
        """Return who leaves, once the copies are done."""
        return self._mask[: self._count].numpy().copy() if self._known.query() else None

    def keep(self, stay: np.ndarray) -> None:
        """Enqueue the packing of these."""
        torch, count = self._torch, len(stay)
        with torch.cuda.stream(self._stream), torch.inference_mode():
            self._resumed.record(self._stream)
            if count:
                self._stay[:count] = torch.from_numpy(stay)
                rows = self._stay[:count].to(self._features.device, non_blocking=True)
                packed = self._first.output_buffers()[self._name].index_select(0, rows)
                self._features[self._held : self._held + count].copy_(packed)
        self._held += count
        if self._first_stream is not None:
            self._first_stream.wait_stream(self._stream)  # the next first stage may not write over these features

    def load(self, count: int) -> None:
        """Enqueue the copies."""
        left = self._held - count
        with self._torch.cuda.stream(self._stream), self._torch.inference_mode():
            self._input[:count].copy_(self._features[:count])
            if left:
                self._features[:left].copy_(self._features[count : self._held].clone())
        self._held = left

    def host_sync_s(self) -> float:
        """Return the time between two events on the device: decision, copies, and its wait for the host."""
        self._resumed.synchronize()
        return float(self._ended.elapsed_time(self._resumed)) / 1e3

    def clear(self) -> None:
        """Forget all."""
        self._held = 0


def stage_pool(first: Executable, second: Executable, router: Router, number: int, capacity: int) -> StagePool:
    """Return the pool behind stage `number` of a router, for the device that the stages are on."""
    if second.stream is None:
        return HostStagePool(first, second, router, number, capacity)
    return DeviceStagePool(first, second, router, number, capacity)
