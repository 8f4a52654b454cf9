"""The way of an image into an engine and of an answer out: in place on a CPU, overlapped with compute on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Staging(Protocol):
    """Images of the requests that were taken from the queue and not run yet, in their order."""

    def add(self, samples: Sequence[int]) -> None:
        """Take in the images of further requests, by number."""

    def load(self, count: int) -> None:
        """Put the first `count` into the engine's input, ordered before what is enqueued next, and forget them."""

    def clear(self) -> None:
        """Forget all."""


class Answers(Protocol):
    """The results of one batch on their way to the host."""

    rows: Any  # [batch, classes], valid once `ready`

    def fetch(self, result: Any, count: int) -> None:
        """Begin to bring the first `count` rows of `result` to the host, after all that is enqueued."""

    def ready(self) -> bool:
        """Whether they are there."""


class HostStaging:
    """On a CPU images are copied straight into the engine's input when their batch begins."""

    def __init__(self, images: np.ndarray, buffer: np.ndarray) -> None:
        """Take all images [S, ...] and the engine's input [max batch, ...]."""
        self._images, self._buffer = images, buffer
        self._rows: list[int] = []

    def add(self, samples: Sequence[int]) -> None:
        """Remember which."""
        self._rows.extend(samples)

    def load(self, count: int) -> None:
        """Copy the first `count`; rows beyond them keep what they had and are padding."""
        rows, self._rows = self._rows[:count], self._rows[count:]
        np.take(self._images, rows, axis=0, out=self._buffer[:count], mode="clip")

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
    """Images in pinned memory, copied to the device on a stream of their own while the batch before them computes.

    Two sets of rows on the device: the one that is being filled, and the one the engine has read from. `load` is
    called only when no batch is in flight, so the set it turns to has been read. The images are pinned where they
    lie, as a server's receive buffers would be: gathering them on the host first would cost a core more than the
    copies cost the bus.
    """

    def __init__(self, images: np.ndarray, buffer: Any, stream: Any) -> None:
        """Take all images [S, ...], the engine's input tensor [max batch, ...] and the stream it computes on."""
        import torch

        self._images = torch.from_numpy(images).pin_memory().unbind(0)
        self._buffer, self._stream = buffer, stream
        self._copies = torch.cuda.Stream()
        self._device = [torch.empty_like(buffer) for _ in range(2)]
        self._device_rows = [rows.unbind(0) for rows in self._device]  # once: an index costs as much as a copy's launch
        torch.cuda.synchronize()  # made on another stream than the one that will write them
        self._rows: list[int] = []
        self._filling = 0

    def add(self, samples: Sequence[int]) -> None:
        """Begin to copy further images to the device, behind those that are there."""
        import torch

        rows = self._device_rows[self._filling]
        with torch.cuda.stream(self._copies):
            for row, sample in enumerate(samples, start=len(self._rows)):
                rows[row].copy_(self._images[sample], non_blocking=True)
        self._rows.extend(samples)

    def load(self, count: int) -> None:
        """Order the engine's stream behind the copies; whoever is left over moves to the other set."""
        import torch

        self._stream.wait_stream(self._copies)
        with torch.cuda.stream(self._stream):
            self._buffer[:count].copy_(self._device[self._filling][:count], non_blocking=True)
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

    def __init__(self, rows: int, classes: int, dtype: Any, stream: Any) -> None:
        import torch

        self.rows = torch.empty((rows, classes), dtype=dtype, pin_memory=True)
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
