"""One MLPerf LoadGen test of one server: settings in, LoadGen's verdict and our own record out.

LoadGen (https://github.com/mlcommons/inference/tree/master/loadgen) sends the requests from a process of its own and
judges by its own clock; the server runs on the calling thread, which holds the cell.

The server's loop takes requests in, first come, first served, runs batches and answers; it runs on the calling thread.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from harness.measure.clocks import no_collector
from harness.serving.client import FLUSH, Client, LoadGenReport, LoadTest
from harness.serving.records import BatchRecord, LoadFigures, QueryRecord, Request, figures
from harness.serving.work import NEVER, Work
from harness.system.counts import counted
from harness.system.errors import CellError, UserError


class Sender(Protocol):
    """Where requests come from."""

    @property
    def verdict(self) -> object | None:
        """Not None once the last request was sent."""

    def read(self, timeout_s: float | None = 0.0) -> list[tuple[int, int, float]]:
        """Return what was sent: (query's number, image or FLUSH, seconds); wait for it at most `timeout_s`."""


class Arrivals:
    """First come, first served. Everything happens on the server's thread."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._waiting: deque[Request] = deque()
        self.flushed = False  # no more of this series will come
        self.closed = False  # the test is over
        self.refusing = False  # arrivals are shed at once

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, most: int) -> list[Request]:
        """Read new arrivals; remove and return the first `most` requests."""
        if len(self._waiting) < most:
            self._read(0.0)
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def refuse(self) -> list[Request]:
        """Accept no further requests; read new arrivals and return all that wait, to be shed."""
        self.refusing = True
        self._read(0.0)
        out = list(self._waiting)
        self._waiting.clear()
        return out

    def wait(self, timeout_s: float | None) -> None:
        """Wait until a request arrives, the queue is flushed or closed, or time is up."""
        if not self._waiting:
            self._read(timeout_s)

    def _read(self, timeout_s: float | None) -> None:
        if self.closed:
            return
        for number, image, issued_s in self._sender.read(timeout_s):
            self.flushed = image == FLUSH
            if not self.flushed:
                self._waiting.append(Request(number, image, issued_s, queued_s=time.perf_counter()))
        if self._sender.verdict is not None:
            self.closed = self.flushed = True


_PR_SET_TIMERSLACK = 29  # prctl(2)


def short_sleeps() -> None:
    """Let this thread's waits end on time (Linux): by default the kernel may extend each by 50 us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def serve(
    arrivals: Arrivals, work: Work, answer: Callable[[Sequence[Request]], None], give_up_s: float | None = None
) -> None:
    """Serve until the queue is closed and empty.

    If launching is asynchronous, the next batch is launched before the previous replies are sent; otherwise the device
    idles meanwhile, for a twentieth of a batch of 64 at 13,000 images/s.

    While a batch is in flight this thread polls without sleeping: during a sleep the device would idle.

    A queue whose first request is older than `give_up_s` grows without end: then all waiting and all later requests are
    shed: answered without having been run, `completed_s` left NaN.
    """

    def too_late() -> bool:
        oldest = work.oldest_s()
        return give_up_s is not None and oldest is not None and time.perf_counter() - oldest > give_up_s

    while True:
        if arrivals.refusing:
            answer(arrivals.refuse())
        elif taken := arrivals.take(work.room()):
            work.take_in(taken)
        done = work.answered()
        if done:
            try:
                if work.starts_at_once and not too_late():
                    work.start(arrivals.flushed)
            finally:
                answer(done)
        elif not work.busy:
            if too_late():
                answer([*work.drop(), *arrivals.refuse()])
                continue
            wait_s = work.start(arrivals.flushed)
            if wait_s is None:
                continue
            if arrivals.closed and work.oldest_s() is None and not len(arrivals):
                return
            arrivals.wait(None if wait_s == NEVER else wait_s)


@dataclass(frozen=True)
class LoadResult:
    """What one test gave."""

    test: LoadTest
    valid: bool  # LoadGen says VALID, and every request was run
    reason: str  # why not, in words; "" if valid
    arrived_per_s: float  # server: what the drawn arrivals came to; else what was completed
    completed_per_s: float
    latency_ms: float  # at `test.percentile`: LoadGen's where it reports that one, else ours
    mean_latency_ms: float  # LoadGen's: from the scheduled time of a request, not from when it was handed over
    lag_ms: float  # how much longer that is than our own mean: LoadGen's lateness, and the way back
    record: QueryRecord
    figures: LoadFigures | None  # None: nothing was run
    batch_sizes: dict[int, int]  # how many batches of how many requests
    summary: str  # LoadGen's own text
    batches: BatchRecord
    too_short: bool = False  # it ended before `test.min_duration_s`


def require_loadgen() -> None:
    """Raise UserError where LoadGen is not installed."""
    try:
        import mlperf_loadgen  # noqa: F401
    except ImportError:
        raise UserError(
            "scenario: the load scenarios need MLPerf LoadGen, which is not installed: pip install mlcommons-loadgen."
        ) from None


def run_test(test: LoadTest, work: Work) -> LoadResult:
    """Run one test against `work`; raise CellError if the cell failed while it served."""
    finished: list[Request] = []
    short_sleeps()
    work.runs.clear()
    with no_collector(), Client(test) as client:  # in this order: collecting takes longer than the first requests wait
        arrivals = Arrivals(client)

        def answer(requests: Sequence[Request]) -> None:
            finished.extend(requests)
            client.answer([request.query_id for request in requests])

        try:
            serve(arrivals, work, answer, test.give_up_s)
        except Exception as error:
            work.drop()
            if isinstance(error, CellError):
                raise
            raise CellError(f"failed under load: {type(error).__name__}: {error}") from error
        assert client.verdict is not None, "the server ends when the test is over"
        return _result(test, client.verdict, finished, work)


def _result(test: LoadTest, verdict: LoadGenReport, finished: Sequence[Request], work: Work) -> LoadResult:
    reported = verdict.values
    record = QueryRecord.of(finished)
    ours = record.latency_s[~np.isnan(record.latency_s)]
    measured_ms = float(np.quantile(ours, test.percentile / 100, method="inverted_cdf") * 1e3) if len(ours) else np.inf
    named_ns = reported.get(f"result_{test.percentile:.2f}_percentile_latency_ns")
    latency_ms = np.inf if record.shed else (measured_ms if named_ns is None else float(named_ns) / 1e6)
    mean_ms = float(reported["result_mean_latency_ns"]) / 1e6 if "result_mean_latency_ns" in reported else measured_ms
    span_s = float(np.nanmax(record.completed_s)) if len(ours) else np.inf
    completed = len(ours) / span_s if span_s else 0.0
    reasons = _reasons(test, reported, record.shed, latency_ms)
    return LoadResult(
        test=test,
        valid=not reasons,
        reason="; ".join(reasons),
        arrived_per_s=float(reported.get("result_scheduled_samples_per_sec", completed)),
        completed_per_s=completed,
        latency_ms=float(latency_ms),
        mean_latency_ms=mean_ms,
        lag_ms=mean_ms - float(ours.mean() * 1e3) if len(ours) and not record.shed else np.nan,
        record=record,
        figures=figures(record, work.runs, work.has_router) if work.runs else None,
        batch_sizes=dict(sorted(Counter(run.requests for run in work.runs if run.stage == 1).items())),
        summary=verdict.summary,
        batches=BatchRecord.of(work.runs, min((request.issued_s for request in finished), default=0.0)),
        too_short=not reported.get("result_min_duration_met", True),
    )


def _reasons(test: LoadTest, reported: dict[str, Any], shed: int, latency_ms: float) -> list[str]:
    """Return why a test says nothing, or that the bound was missed."""
    out = []
    if shed:
        out.append(f"overloaded: {counted(shed, 'request')} shed because the queue only grew")
    elif not reported.get("result_perf_constraints_met", True):
        out.append(f"p{test.percentile:g} latency {latency_ms:.1f} ms, the bound is {test.slo_ms:g} ms")
    if not reported.get("result_min_duration_met", True):
        out.append(f"shorter than min_duration_s={test.min_duration_s:g}")
    if not reported.get("result_min_queries_met", True):
        out.append(f"fewer than {test.min_queries} requests within max_duration_s={test.max_duration_s:g}")
    if not out and not reported.get("early_stopping_met", True):
        out.append(f"too few requests for a p{test.percentile:g} this near the bound (LoadGen's early stopping)")
    if not out and reported.get("result_validity") != "VALID":
        out.append("LoadGen says INVALID")
    return out
