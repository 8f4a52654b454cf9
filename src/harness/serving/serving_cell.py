"""The commands of a worker that serves: time its batches, run one LoadGen test, search for the rate at the bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.measure.worker import CellCommands
from harness.serving.client import LoadTest
from harness.serving.loadgen import LoadResult, run_test
from harness.serving.policy import BatchPolicy
from harness.serving.queueing import Found, Point, highest_rate
from harness.serving.records import Request
from harness.serving.work import Work, batch_times_s
from harness.system.errors import CellError
from harness.techniques.arch.stages import Bound, Router

if TYPE_CHECKING:
    from harness.engines.base import Executable

WARM_RUNS = 3  # of each size, before anything is served
ROUTINGS = ("measured", "none", "all")  # who leaves before the last stage: as calibrated; nobody; everybody


@dataclass(frozen=True)
class ServingPlan:
    """How one cell serves."""

    policies: tuple[BatchPolicy, ...]  # of each stage
    sample_count: int = 64
    seed: int = 0  # of the samples' values
    routing: str = "measured"  # one of ROUTINGS

    @property
    def policy(self) -> BatchPolicy:
        """The first stage's: what requests meet."""
        return self.policies[0]


@dataclass(frozen=True)
class Search:
    """A search for the highest rate; `test` is the template of each of its points."""

    plan: ServingPlan
    test: LoadTest
    guess_per_s: float
    lowest_per_s: float
    highest_per_s: float
    tolerance: float
    step: float  # the first one away from the guess, as a factor


@dataclass(frozen=True)
class SearchResult:
    """Its points, and what LoadGen and our record say of each."""

    found: Found
    results: tuple[LoadResult, ...]


@dataclass(frozen=True)
class Served:
    """What a cell said when it was made ready to serve."""

    router: Router  # that decides about each request alone
    captured_sizes: tuple[int, ...]  # batch sizes that are replayed from a graph
    largest_error: float  # of the served answers, relative to the largest logit of the same samples run plainly
    degraded: tuple[str, ...] = ()  # why some sizes are launched by the host although graphs were requested


class ServingCell(CellCommands):
    """A cell that can also serve."""

    _plan: ServingPlan | None = None
    _current_work: Work

    def ready(self, plan: ServingPlan) -> Served:
        """Make the cell ready and check that what it serves is what it computes."""
        work = self._work(plan)
        return Served(self._router, self._captured, self._check(work, plan), tuple(self._not_captured))

    def service_times(self, argument: tuple[ServingPlan, tuple[int, ...], int]) -> dict[int, list[float]]:
        """Return milliseconds that batches of these sizes take a server, samples and answers on the host."""
        plan, sizes, count = argument
        work = self._work(plan)
        return {size: [s * 1e3 for s in batch_times_s(work, size, count, plan.sample_count)] for size in sizes}

    def load_test(self, argument: tuple[ServingPlan, LoadTest]) -> LoadResult:
        """Run one LoadGen test."""
        plan, test = argument
        return run_test(test, self._work(plan))

    def search(self, search: Search) -> SearchResult:
        """Search for the highest rate that meets the bound."""
        work, results = self._work(search.plan), []

        def measure(rate_per_s: float) -> Point:
            result = run_test(replace(search.test, expected_per_s=rate_per_s), work)
            results.append(result)
            return point(result)

        bounds = (search.lowest_per_s, search.highest_per_s)
        found = highest_rate(measure, search.guess_per_s, *bounds, search.tolerance, search.step)
        return SearchResult(found, tuple(results))

    def _work(self, plan: ServingPlan) -> Work:
        """Return what serves by this plan, every size it can run already run; the last one is kept."""
        if self._plan == plan:
            return self._current_work
        self._samples = self._cell.made_inputs(self._executables[0].input_specs, plan.sample_count, plan.seed)
        self._not_captured: list[str] = []
        self._captured = tuple(size for size in plan.policy.sizes() if self._warm(0, size))
        for number, policy in enumerate(plan.policies[1:], start=1):
            for size in policy.sizes():
                self._warm(number, size)
        self._heads = self._plain_heads(plan)
        self._router = self._cell.router.per_sample(self._heads)
        router = self._router if plan.routing == "measured" else Bound(self._router, plan.routing == "all")
        self._current_work = Work(self._executables, plan.policies, router, self._samples)
        self._current_work.starts_at_once = bool(self._captured) and not self._not_captured
        self._plan = plan
        batch_times_s(self._current_work, plan.policy.max_batch_size, 1, plan.sample_count)
        return self._current_work

    def _warm(self, stage: int, size: int) -> bool:
        """Run a size so that nothing is left to do at its first request; return whether it is replayed from a graph."""
        executable, plan = self._executables[stage], self._cell.artifacts[stage].plan
        reason = executable.capture(size) if plan.cuda_graph else None
        if reason is not None:
            self._not_captured.append(f"no CUDA graph at batch size {size}: {reason}")
        for _ in range(WARM_RUNS):
            executable.enqueue(size)
        executable.synchronize()
        return plan.cuda_graph and reason is None

    def _plain_heads(self, plan: ServingPlan) -> dict[str, np.ndarray]:
        """Return every head for all samples, in the order of the stages, each run in full batches without a server."""
        heads: dict[str, np.ndarray] = {}
        values = self._samples
        for number, (executable, policy) in enumerate(zip(self._executables, plan.policies, strict=True), start=1):
            outputs = _plainly(executable, values, policy)
            if number < len(self._executables):
                name = self._executables[number].input_specs[0].name
                values = {name: outputs.pop(name)}
            heads |= outputs
        return heads

    def _check(self, work: Work, plan: ServingPlan) -> float:
        """Serve every sample and compare with the plain run of the same engines; raise CellError if they differ."""
        requests = [Request(number, number, 0.0) for number in range(plan.sample_count)]
        work.keeps_answers = True
        try:
            _drain(work, requests)
        finally:
            work.keeps_answers = False
        heads = list(self._heads.values())
        expected = np.stack([heads[request.left_after][request.sample] for request in requests]).astype(np.float32)
        served = np.stack([request.answer for request in requests if request.answer is not None]).astype(np.float32)
        error = float(np.abs(served - expected).max() / (np.abs(expected).max() or 1.0))
        if not error <= self._cell.artifacts[0].plan.arithmetic.tolerance:
            raise CellError(
                f"wrong answer under load: off by {error:.2g} of the range of what the same engine computes"
            )
        return error


def point(result: LoadResult) -> Point:
    """Return one test of a rate as a point of the latency-rate curve."""
    return Point(
        rate_per_s=result.test.expected_per_s,
        arrived_per_s=result.arrived_per_s,
        completed_per_s=result.completed_per_s,
        latency_ms=result.latency_ms,
        valid=result.valid,
        reason=result.reason,
    )


def _plainly(executable: Executable, samples: Mapping[str, np.ndarray], policy: BatchPolicy) -> dict[str, np.ndarray]:
    """Return the outputs of one stage for all samples, run in full batches."""
    out = []
    count = len(next(iter(samples.values())))
    size = policy.executed(policy.max_batch_size)
    for start in range(0, count, policy.max_batch_size):
        end = min(start + policy.max_batch_size, count)
        chunks = {spec: samples[spec.name][start:end] for spec in executable.input_specs}
        executable.write_inputs(
            {spec.name: np.resize(chunk, (size, *chunk.shape[1:])).astype(spec.dtype) for spec, chunk in chunks.items()}
        )
        executable.synchronize()
        executable.enqueue(size)
        executable.synchronize()
        out.append({name: array[: end - start] for name, array in executable.outputs(size).items()})
    return {name: np.concatenate([part[name] for part in out]) for name in out[0]}


def _drain(work: Work, requests: Sequence[Request]) -> None:
    """Serve these requests and nobody else."""
    left, answered = list(requests), 0
    while answered < len(requests):
        if left and work.room():
            count = work.room()
            work.take_in(left[:count])
            left = left[count:]
        answered += len(work.answered())
        if not work.busy:
            work.start(flush=True)
