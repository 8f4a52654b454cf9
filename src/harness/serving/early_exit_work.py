"""An early exit that serves: stage 1 on who comes, a decision a sample, stage 2 on the survivors of many batches."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from harness.engines.base import Executable
from harness.serving.exit_pool import exit_pool
from harness.serving.policy import BatchPolicy
from harness.serving.queries import BatchRun, Request
from harness.serving.work import NEVER, answers_for, staging_for
from harness.techniques.arch.exit_policy import ExitPolicy


class EarlyExitWork:
    """Two stages. The second runs when its batch is full, when a survivor has waited long, or when nothing else can."""

    def __init__(
        self,
        first: Executable,
        second: Executable,
        policy: BatchPolicy,
        tail: BatchPolicy,
        exits: ExitPolicy,
        images: np.ndarray,
    ) -> None:
        """Take the policies of both stages (`tail`: its delay is what a survivor may wait), a calibrated exit."""
        self._first, self._second = first, second
        self._policy, self._tail = policy, tail
        self._capacity = policy.max_batch_size + 2 * tail.max_batch_size
        self._staging = staging_for(first, images)
        self._pool = exit_pool(first, second, exits, self._capacity)
        self._answers = answers_for(second, "logits", tail.max_batch_size)
        self._waiting: list[Request] = []
        self._pooled: list[tuple[Request, float]] = []  # survivors, and since when they wait
        self._batch: list[Request] = []
        self._stage, self._began_s, self._executed = 0, 0.0, 0
        self._unsettled: BatchRun | None = None  # a first stage whose wait for the host can't be read yet
        self.runs: list[BatchRun] = []
        self.busy = self.keeps_answers = self.starts_at_once = False

    def room(self) -> int:
        """Return what is left of one batch of the first stage."""
        return self._policy.max_batch_size - len(self._waiting)

    def take_in(self, requests: Sequence[Request]) -> None:
        """Stage the images."""
        self._waiting.extend(requests)
        self._staging.add([request.sample for request in requests])

    def start(self, flush: bool) -> float | None:
        """Run a full or an overdue second stage, else a first stage, else whatever survivors there are."""
        self._settle()
        now = time.perf_counter()
        pooled_us = (now - self._pooled[0][1]) * 1e6 if self._pooled else 0.0
        overdue = self._tail.take(len(self._pooled), pooled_us) if self._pooled else 0
        crowded = len(self._pooled) > self._capacity - self._policy.max_batch_size
        if overdue or crowded:
            self._start_second(overdue or min(len(self._pooled), self._tail.max_batch_size), now)
            return None
        oldest_us = (now - self._waiting[0].issued_s) * 1e6 if self._waiting else 0.0
        count = self._policy.take(len(self._waiting), oldest_us, flush) if self._waiting else 0
        if count:
            self._start_first(count, now)
            return None
        if self._pooled:
            self._start_second(min(len(self._pooled), self._tail.max_batch_size), now)
            return None
        return self._policy.wait_us(oldest_us) / 1e6 if self._waiting else NEVER

    def _start_first(self, count: int, now: float) -> None:
        self._batch, self._waiting = self._waiting[:count], self._waiting[count:]
        for request in self._batch:
            request.started_s, request.batch_size = now, count
        self._stage, self._began_s, self._executed, self.busy = 1, now, self._policy.executed(count), True
        self._staging.load(count)
        self._first.enqueue(self._executed)
        self._pool.decide(count)

    def _start_second(self, count: int, now: float) -> None:
        self._batch = [request for request, _ in self._pooled[:count]]
        self._pooled = self._pooled[count:]
        self._stage, self._began_s, self._executed, self.busy = 2, now, self._tail.executed(count), True
        self._pool.load(count)
        self._second.enqueue(self._executed)
        self._answers.fetch(self._second.output_buffers()["logits"], count)

    def answered(self) -> list[Request]:
        """Return those who left after the first stage, or the batch of the second."""
        if not self.busy:
            return []
        return self._after_first() if self._stage == 1 else self._after_second()

    def _after_first(self) -> list[Request]:
        leaving = self._pool.decided()
        if leaving is None:
            return []
        self._pool.keep(np.flatnonzero(~leaving))  # first: the device waits for this
        now = time.perf_counter()
        self._unsettled = BatchRun(1, self._began_s, now, len(self._batch), self._executed)
        done = []
        for row, (request, leaves) in enumerate(zip(self._batch, leaving, strict=True)):
            if not leaves:
                self._pooled.append((request, now))
                continue
            request.completed_s, request.exited = now, True
            if self.keeps_answers:
                request.answer = np.array(self._pool.exit_logits[row])
            done.append(request)
        self._batch, self.busy = [], False
        return done

    def _after_second(self) -> list[Request]:
        if not self._answers.ready():
            return []
        now = time.perf_counter()
        self.runs.append(BatchRun(2, self._began_s, now, len(self._batch), self._executed))
        done, self._batch, self.busy = self._batch, [], False
        for row, request in enumerate(done):
            request.completed_s = now
            if self.keeps_answers:
                request.answer = np.array(self._answers.rows[row])
        return done

    def _settle(self) -> None:
        """Note the last first stage, whose packing is done or nearly so."""
        if self._unsettled is not None:
            run, self._unsettled = self._unsettled, None
            self.runs.append(
                BatchRun(
                    run.stage, run.started_s, run.completed_s, run.requests, run.executed, self._pool.host_sync_s()
                )
            )

    def oldest_s(self) -> float | None:
        """Return when the first of those who wait for either stage was issued."""
        waiting = [request.issued_s for request in (*self._waiting[:1], *(one for one, _ in self._pooled[:1]))]
        return min(waiting) if waiting else None

    def drop(self) -> list[Request]:
        """Forget all."""
        self._unsettled = None
        out = [*self._batch, *self._waiting, *(request for request, _ in self._pooled)]
        self._batch, self._waiting, self._pooled, self.busy = [], [], [], False
        self._staging.clear()
        self._pool.clear()
        return out
