"""What serves requests: samples in, batches through the stages of a network, answers out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from harness.engines.base import Executable
from harness.networks.inputs import TensorSpec
from harness.serving.policy import BatchPolicy
from harness.serving.records import BatchRun, Request
from harness.serving.staging import (
    Answers,
    DeviceAnswers,
    DeviceStaging,
    HostAnswers,
    HostStaging,
    StagePool,
    Staging,
    stage_pool,
)
from harness.techniques.arch.stages import Router

NEVER = float("inf")


class Work:
    """One cell that serves. All calls come from the thread that loaded it.

    A stage behind the first runs when its batch is full, when a sample has waited long for it, or when nothing else
    can run.
    """

    def __init__(
        self,
        executables: Sequence[Executable],
        policies: Sequence[BatchPolicy],
        router: Router,
        samples: Mapping[str, np.ndarray],
    ) -> None:
        """Take an executable and a policy a stage (a later one's delay is what a sample may wait for it)."""
        self._stages, self._policies, self._router = executables, policies, router
        self._staging = staging_for(executables[0], samples)
        self._capacities = [policy.max_batch_size + 2 * later.max_batch_size for policy, later in pairwise(policies)]
        self._pools: list[StagePool] = [
            stage_pool(first, second, router, number, self._capacities[number])
            for number, (first, second) in enumerate(pairwise(executables))
        ]
        self._answer = executables[-1].output_specs[-1]  # of one stage it is the only one, of more the last one's head
        self._answers = answers_for(executables[-1], self._answer, policies[-1].max_batch_size)
        self._waiting: list[Request] = []
        self._pooled: list[list[tuple[Request, float]]] = [[] for _ in self._pools]  # and since when they wait
        self._batch: list[Request] = []
        self._stage, self._began_s, self._executed = 0, 0.0, 0
        self._unsettled: tuple[BatchRun, StagePool] | None = None  # a run whose wait for the host can't be read yet
        self.runs: list[BatchRun] = []
        self.busy = False  # a batch is in flight
        self.keeps_answers = False  # the logits stay with each request, to be checked
        self.starts_at_once = False  # a batch is replayed from a graph, and this thread is free meanwhile

    @property
    def has_router(self) -> bool:
        """Whether samples may leave before the last stage."""
        return bool(self._pools)

    def room(self) -> int:
        """Return how many more requests can be taken in: what is left of one batch of the first stage."""
        return self._policies[0].max_batch_size - len(self._waiting)

    def take_in(self, requests: Sequence[Request]) -> None:
        """Take requests in, in their order; their samples may begin to move."""
        self._waiting.extend(requests)
        self._staging.add([request.sample for request in requests])

    def start(self, flush: bool) -> float | None:
        """Start the next batch and return None, or return the seconds until one could start; not while `busy`.

        A later stage that is full or overdue comes first, the last one before the others; then the first stage, then
        whatever samples wait for a later one.
        """
        self._settle()
        now = time.perf_counter()
        for number in reversed(range(len(self._pools))):
            pooled, policy = self._pooled[number], self._policies[number + 1]
            overdue = policy.take(len(pooled), (now - pooled[0][1]) * 1e6) if pooled else 0
            crowded = len(pooled) > self._capacities[number] - self._policies[number].max_batch_size
            if overdue or crowded:
                self._start_later(number, overdue or min(len(pooled), policy.max_batch_size), now)
                return None
        oldest_us = (now - self._waiting[0].issued_s) * 1e6 if self._waiting else 0.0
        count = self._policies[0].take(len(self._waiting), oldest_us, flush) if self._waiting else 0
        if count:
            self._start_first(count, now)
            return None
        for number in reversed(range(len(self._pools))):
            if self._pooled[number]:
                most = self._policies[number + 1].max_batch_size
                self._start_later(number, min(len(self._pooled[number]), most), now)
                return None
        return self._policies[0].wait_us(oldest_us) / 1e6 if self._waiting else NEVER

    def _start_first(self, count: int, now: float) -> None:
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        for request in batch:
            request.started_s, request.batch_size = now, count
        self._staging.load(count)
        self._enqueue(0, batch, now)

    def _start_later(self, number: int, count: int, now: float) -> None:
        """Run the stage behind pool `number`."""
        batch = [request for request, _ in self._pooled[number][:count]]
        self._pooled[number] = self._pooled[number][count:]
        self._pools[number].load(count)
        self._enqueue(number + 1, batch, now)

    def _enqueue(self, stage: int, batch: list[Request], now: float) -> None:
        count = len(batch)
        self._batch, self._stage, self._began_s, self.busy = batch, stage, now, True
        self._executed = self._policies[stage].executed(count)
        self._stages[stage].enqueue(self._executed)
        if stage < len(self._pools):
            self._pools[stage].decide(count)
        else:
            self._answers.fetch(self._stages[stage].output_buffers()[self._answer.name], count)

    def answered(self) -> list[Request]:
        """Return the requests that are answered since the last call, without waiting."""
        if not self.busy:
            return []
        return self._after_decision() if self._stage < len(self._pools) else self._after_last()

    def _after_decision(self) -> list[Request]:
        pool, pooled = self._pools[self._stage], self._pooled[self._stage]
        leaving = pool.decided()
        if leaving is None:
            return []
        pool.keep(np.flatnonzero(~leaving))  # first: the device waits for this
        now = time.perf_counter()
        self._unsettled = BatchRun(self._stage + 1, self._began_s, now, len(self._batch), self._executed), pool
        done = []
        for row, (request, leaves) in enumerate(zip(self._batch, leaving, strict=True)):
            if not leaves:
                pooled.append((request, now))
                continue
            request.completed_s, request.left_after, request.exited = now, self._stage, True
            if self.keeps_answers:
                request.answer = np.array(pool.logits[row])
            done.append(request)
        self._batch, self.busy = [], False
        return done

    def _after_last(self) -> list[Request]:
        if not self._answers.ready():
            return []
        now = time.perf_counter()
        self.runs.append(BatchRun(self._stage + 1, self._began_s, now, len(self._batch), self._executed))
        done, self._batch, self.busy = self._batch, [], False
        for row, request in enumerate(done):
            request.completed_s, request.left_after = now, self._stage
            if self.keeps_answers:
                request.answer = np.array(self._answers.rows[row])
        return done

    def _settle(self) -> None:
        """Note the last run with a decision, whose packing is done or nearly so."""
        if self._unsettled is not None:
            (run, pool), self._unsettled = self._unsettled, None
            self.runs.append(replace(run, host_sync_s=pool.host_sync_s()))

    def oldest_s(self) -> float | None:
        """Return when the first of those that wait inside was issued; None: nobody waits."""
        pooled = (request.issued_s for waiting in self._pooled for request, _ in waiting[:1])
        return min((*(request.issued_s for request in self._waiting[:1]), *pooled), default=None)

    def drop(self) -> list[Request]:
        """Forget and return all who wait inside, and after an error those of the batch that failed."""
        self._unsettled = None
        pooled = [request for waiting in self._pooled for request, _ in waiting]
        out = [*self._batch, *self._waiting, *pooled]
        self._batch, self._waiting, self._pooled, self.busy = [], [], [[] for _ in self._pools], False
        self._staging.clear()
        for pool in self._pools:
            pool.clear()
        return out


def staging_for(executable: Executable, samples: Mapping[str, np.ndarray]) -> Staging:
    """Return the staging of samples, [S, ...] by name, into an engine's inputs."""
    specs = executable.input_specs
    typed = {spec.name: np.ascontiguousarray(samples[spec.name].astype(spec.dtype)) for spec in specs}
    buffers = executable.input_buffers()
    if executable.stream is None:
        return HostStaging(typed, buffers)
    return DeviceStaging(typed, buffers, executable.stream)


def answers_for(executable: Executable, output: TensorSpec, rows: int) -> Answers:
    """Return the way of an engine's output to the host, `rows` samples at most."""
    if executable.stream is None:
        return HostAnswers()
    import torch

    return DeviceAnswers(rows, output.shape[1:], getattr(torch, output.dtype), executable.stream)


def batch_times_s(work: Work, size: int, count: int, sample_count: int) -> list[float]:
    """Return seconds from one batch's answers to the next one's, [count], where `size` requests always wait.

    As in the server's loop, the next requests are taken in while a batch is in flight: where their samples travel
    beside it, they cost what they cost under load. A network in stages answers in portions, so all its values
    are the mean over `size` answers.
    """
    idle_room = work.room()
    total = (count + 2) * size  # the first one only fills the server, beside the last one nothing is taken in
    come = answered = 0
    ends: list[float] = []
    while answered < total:
        if come < total and work.room() == idle_room:
            now = time.perf_counter()
            work.take_in([Request(number, number % sample_count, now) for number in range(come, come + size)])
            come += size
        done = len(work.answered())
        if done:
            answered += done
            ends += [time.perf_counter()] * (answered // size - len(ends))
        if not work.busy:
            work.start(flush=True)
    spans = np.diff(ends[:-1])
    return [float(span) for span in (spans if (spans > 0).all() else np.full(count, spans.mean()))]
