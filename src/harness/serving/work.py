"""What a server does with requests: stage them, run them in batches, say which are answered. Here: a whole network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from harness.engines.base import Executable
from harness.serving.policy import BatchPolicy
from harness.serving.queries import BatchRun, Request
from harness.serving.staging import Answers, DeviceAnswers, DeviceStaging, HostAnswers, HostStaging, Staging

NEVER = float("inf")


class Work(Protocol):
    """One cell that serves. All calls come from the thread that loaded it."""

    runs: list[BatchRun]
    busy: bool  # a batch is in flight
    keeps_answers: bool  # the logits stay with each request, to be checked
    starts_at_once: bool  # a batch is replayed from a graph, and this thread is free meanwhile

    def room(self) -> int:
        """Return how many more requests can be taken in."""

    def take_in(self, requests: Sequence[Request]) -> None:
        """Take requests in, in their order; their images may begin to move."""

    def start(self, flush: bool) -> float | None:
        """Start the next batch and return None, or return the seconds until one could start; not while `busy`."""

    def answered(self) -> list[Request]:
        """Return the requests that are answered since the last call, without waiting."""

    def oldest_s(self) -> float | None:
        """Return when the first of those that wait inside was issued; None: nobody waits."""

    def drop(self) -> list[Request]:
        """Forget and return all who wait inside, and after an error those of the batch that failed."""


class WholeWork:
    """A network in one call."""

    def __init__(self, executable: Executable, policy: BatchPolicy, images: np.ndarray) -> None:
        self._executable, self._policy = executable, policy
        self._staging = staging_for(executable, images)
        self._answers = answers_for(executable, "logits", policy.max_batch_size)
        self._waiting: list[Request] = []
        self._batch: list[Request] = []
        self._began_s, self._executed = 0.0, 0
        self.runs: list[BatchRun] = []
        self.busy = self.keeps_answers = self.starts_at_once = False

    def room(self) -> int:
        """Return what is left of one batch."""
        return self._policy.max_batch_size - len(self._waiting)

    def take_in(self, requests: Sequence[Request]) -> None:
        """Stage the images."""
        self._waiting.extend(requests)
        self._staging.add([request.sample for request in requests])

    def start(self, flush: bool) -> float | None:
        """Run the batch that the policy wants."""
        if not self._waiting:
            return NEVER
        now = time.perf_counter()
        oldest_us = (now - self._waiting[0].issued_s) * 1e6
        count = self._policy.take(len(self._waiting), oldest_us, flush)
        if not count:
            return self._policy.wait_us(oldest_us) / 1e6
        self._batch, self._waiting = self._waiting[:count], self._waiting[count:]
        for request in self._batch:
            request.started_s, request.batch_size = now, count
        self._began_s, self._executed = now, self._policy.executed(count)
        self._staging.load(count)
        self._executable.enqueue(self._executed)
        self._answers.fetch(self._executable.output_buffers()["logits"], count)
        self.busy = True
        return None

    def answered(self) -> list[Request]:
        """Return the batch in flight once it is done."""
        if not self.busy or not self._answers.ready():
            return []
        now = time.perf_counter()
        self.busy = False
        self.runs.append(BatchRun(1, self._began_s, now, len(self._batch), self._executed))
        done, self._batch = self._batch, []
        for row, request in enumerate(done):
            request.completed_s = now
            if self.keeps_answers:
                request.answer = np.array(self._answers.rows[row])
        return done

    def oldest_s(self) -> float | None:
        """Return when the first of the waiting was issued."""
        return self._waiting[0].issued_s if self._waiting else None

    def drop(self) -> list[Request]:
        """Forget all."""
        out = [*self._batch, *self._waiting]
        self._batch, self._waiting, self.busy = [], [], False
        self._staging.clear()
        return out


def staging_for(executable: Executable, images: np.ndarray) -> Staging:
    """Return the staging of images [S, ...] into an engine's one input."""
    spec = executable.input_specs[0]
    buffer = executable.input_buffers()[spec.name]
    images = np.ascontiguousarray(images.astype(spec.dtype))
    if isinstance(buffer, np.ndarray):
        return HostStaging(images, buffer)
    return DeviceStaging(images, buffer, executable.stream)


def answers_for(executable: Executable, output: str, rows: int) -> Answers:
    """Return the way of an engine's output [.., classes] to the host, `rows` at most."""
    if executable.stream is None:
        return HostAnswers()
    import torch

    spec = next(one for one in executable.output_specs if one.name == output)
    return DeviceAnswers(rows, spec.shape[1], getattr(torch, spec.dtype), executable.stream)
