"""Between the two stages of an early exit that serves: who leaves, and the features of those who wait for stage 2.

The decision is a threshold for each sample, taken where the logits are; survivors are packed behind those of earlier
batches, so that a batch of the second stage is made of the requests of several first ones.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np

from harness.engines.base import Executable
from harness.techniques.arch.exit_policy import ExitPolicy, exit_mask


class ExitPool(Protocol):
    """Features of survivors in the order they came, on the device that computes."""

    exit_logits: Any  # of the last first stage, on the host once `decided`

    def decide(self, count: int) -> None:
        """Begin to decide about the first `count` samples of the first stage's outputs."""

    def decided(self) -> np.ndarray | None:
        """Return who leaves, [count] bool, or None while it is not known on the host."""

    def keep(self, stay: np.ndarray) -> None:
        """Pack the features of these samples of the first stage behind those that are there."""

    def load(self, count: int) -> None:
        """Put the first `count` into the second stage's input and forget them."""

    def host_sync_s(self) -> float:
        """Return how long the device stood between the end of the first stage and the packing; after `keep`."""

    def clear(self) -> None:
        """Forget all."""


class HostExitPool:
    """On a CPU everything happens in the call; the decision's own time is what `host_sync_s` says."""

    def __init__(self, first: Executable, second: Executable, policy: ExitPolicy, capacity: int) -> None:
        self._first, self._policy = first, policy
        self._input = second.input_buffers()[second.input_specs[0].name]
        self._features = np.zeros((capacity, *self._input.shape[1:]), dtype=self._input.dtype)
        self._held, self._seconds = 0, 0.0
        self._mask: np.ndarray | None = None

    def decide(self, count: int) -> None:
        """Decide."""
        began = time.perf_counter()
        self.exit_logits = self._first.output_buffers()["exit_logits"][:count].copy()
        self._mask = exit_mask(self.exit_logits, self._policy)
        self._seconds = time.perf_counter() - began

    def decided(self) -> np.ndarray | None:
        """Return who leaves."""
        return self._mask

    def keep(self, stay: np.ndarray) -> None:
        """Copy the features of these."""
        target = self._features[self._held : self._held + len(stay)]
        np.take(self._first.output_buffers()["features"], stay, axis=0, out=target, mode="clip")
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


class DeviceExitPool:
    """On a GPU: mask and exit logits go to pinned memory, then the host says whose features are packed."""

    def __init__(self, first: Executable, second: Executable, policy: ExitPolicy, capacity: int) -> None:
        import torch

        self._torch, self._first, self._policy, self._stream = torch, first, policy, second.stream
        self._other = first.stream if first.stream != second.stream else None
        self._input = second.input_buffers()[second.input_specs[0].name]
        self._features = self._input.new_empty((capacity, *self._input.shape[1:]))
        spec = next(one for one in first.output_specs if one.name == "exit_logits")
        rows = len(first.input_buffers()[first.input_specs[0].name])
        self.exit_logits = torch.empty((rows, spec.shape[1]), dtype=getattr(torch, spec.dtype), pin_memory=True)
        self._mask = torch.empty(rows, dtype=torch.bool, pin_memory=True)
        self._stay = torch.empty(rows, dtype=torch.int64, pin_memory=True)
        self._ended, self._resumed = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._known = torch.cuda.Event()
        self._held = self._count = 0
        torch.cuda.synchronize()

    def decide(self, count: int) -> None:
        """Enqueue decision and copies behind the first stage."""
        torch = self._torch
        if self._other is not None:
            self._stream.wait_stream(self._other)
        with torch.cuda.stream(self._stream), torch.inference_mode():
            self._ended.record(self._stream)
            logits = self._first.output_buffers()["exit_logits"][:count]
            self._mask[:count].copy_(exit_mask(logits, self._policy), non_blocking=True)
            self.exit_logits[:count].copy_(logits, non_blocking=True)
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
                packed = self._first.output_buffers()["features"].index_select(0, rows)
                self._features[self._held : self._held + count].copy_(packed)
        self._held += count
        if self._other is not None:
            self._other.wait_stream(self._stream)  # the next first stage may not write over these features

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


def exit_pool(first: Executable, second: Executable, policy: ExitPolicy, capacity: int) -> ExitPool:
    """Return the pool for the device that the stages are on."""
    if second.stream is None:
        return HostExitPool(first, second, policy, capacity)
    return DeviceExitPool(first, second, policy, capacity)
