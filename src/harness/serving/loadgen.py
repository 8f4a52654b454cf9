"""One MLPerf LoadGen test of one server: settings in, LoadGen's verdict and our own record out.

LoadGen (https://github.com/mlcommons/inference/tree/master/loadgen) sends the requests from a process of its own and
judges by its own clock; the server runs on the calling thread, which holds the cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.measure.clocks import no_collector
from harness.serving.client import Client, LoadGenReport, LoadTest
from harness.serving.records import BatchRecord, LoadFigures, QueryRecord, Request, figures
from harness.serving.server import Arrivals, serve, short_sleeps
from harness.serving.work import Work
from harness.system.counts import counted
from harness.system.errors import CellError, UserError


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
            client.answer([one.query_id for one in requests])

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
    told = verdict.values
    record = QueryRecord.of(finished)
    ours = record.latency_s[~np.isnan(record.latency_s)]
    own_ms = float(np.quantile(ours, test.percentile / 100, method="inverted_cdf") * 1e3) if len(ours) else np.inf
    named_ns = told.get(f"result_{test.percentile:.2f}_percentile_latency_ns")
    latency_ms = np.inf if record.shed else (own_ms if named_ns is None else float(named_ns) / 1e6)
    mean_ms = float(told["result_mean_latency_ns"]) / 1e6 if "result_mean_latency_ns" in told else own_ms
    span_s = float(np.nanmax(record.completed_s)) if len(ours) else np.inf
    completed = len(ours) / span_s if span_s else 0.0
    reasons = _reasons(test, told, record.shed, latency_ms)
    return LoadResult(
        test=test,
        valid=not reasons,
        reason="; ".join(reasons),
        arrived_per_s=float(told.get("result_scheduled_samples_per_sec", completed)),
        completed_per_s=completed,
        latency_ms=float(latency_ms),
        mean_latency_ms=mean_ms,
        lag_ms=mean_ms - float(ours.mean() * 1e3) if len(ours) and not record.shed else np.nan,
        record=record,
        figures=figures(record, work.runs, work.has_router) if work.runs else None,
        batch_sizes=dict(sorted(Counter(run.requests for run in work.runs if run.stage == 1).items())),
        summary=verdict.summary,
        batches=BatchRecord.of(work.runs, min((one.issued_s for one in finished), default=0.0)),
    )


def _reasons(test: LoadTest, told: dict[str, Any], shed: int, latency_ms: float) -> list[str]:
    """Return why a test says nothing, or that the bound was missed."""
    out = []
    if shed:
        out.append(f"overloaded: {counted(shed, 'request')} shed because the queue only grew")
    elif not told.get("result_perf_constraints_met", True):
        out.append(f"p{test.percentile:g} latency {latency_ms:.1f} ms, the bound is {test.slo_ms:g} ms")
    if not told.get("result_min_duration_met", True):
        out.append(f"shorter than min_duration_s={test.min_duration_s:g}")
    if not told.get("result_min_queries_met", True):
        out.append(f"fewer than {test.min_queries} requests within max_duration_s={test.max_duration_s:g}")
    if not out and not told.get("early_stopping_met", True):
        out.append(f"too few requests for a p{test.percentile:g} this near the bound (LoadGen's early stopping)")
    if not out and told.get("result_validity") != "VALID":
        out.append("LoadGen says INVALID")
    return out
