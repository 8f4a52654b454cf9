"""One MLPerf LoadGen test of one server: settings in, LoadGen's verdict and our own record out.

LoadGen (https://github.com/mlcommons/inference/tree/master/loadgen) sends the requests from a thread of its own and
judges by its own clock; the server runs on the calling thread, which holds the cell. An exception that left a callback
would abort the process, so none does.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from harness.errors import CellError, UserError
from harness.measure.clocks import no_collector
from harness.scenarios.arrivals import Arrivals
from harness.scenarios.batches import BatchRecord
from harness.scenarios.queries import LoadFigures, QueryRecord, Request, figures
from harness.scenarios.server import serve, short_sleeps
from harness.scenarios.work import Work

SCENARIOS = {"single_stream": "SingleStream", "offline": "Offline", "server": "Server"}
SUMMARY, DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"
GIVE_UP_BOUNDS, GIVE_UP_MIN_S = 10, 2.0  # a queue as old as ten bounds is no hiccup
JOIN_S = 30.0


@dataclass(frozen=True)
class LoadTest:
    """What is asked of LoadGen."""

    scenario: str  # single_stream | offline | server
    expected_per_s: float  # server: the rate of the arrivals; else what the server is expected to do, to size the test
    percentile: float = 99.0
    slo_ms: float = 50.0  # server
    min_duration_s: float = 2.0
    max_duration_s: float = 60.0
    min_queries: int = 1
    sample_count: int = 64
    seed: int = 0  # of the arrivals' times, and of the order of the images


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


def run_test(test: LoadTest, work: Work, has_exit: bool = False) -> LoadResult:
    """Run one test against `work`; raise CellError if the cell failed while it served."""
    import mlperf_loadgen as loadgen

    arrivals = Arrivals()
    finished: list[Request] = []
    failed: list[BaseException] = []

    def answer(requests: Sequence[Request]) -> None:
        finished.extend(requests)
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(one.query_id, 0, 0) for one in requests])

    def issue(queries: list[Any]) -> None:
        now = time.perf_counter()
        refused = arrivals.put([Request(query.id, query.index, now) for query in queries])
        if refused:
            answer(refused)

    def nothing(*_: Any) -> None:
        """Load and unload: the images are in place."""

    with TemporaryDirectory(prefix="harness-loadgen-") as folder:
        library = loadgen.ConstructQSL(test.sample_count, test.sample_count, nothing, nothing)
        system = loadgen.ConstructSUT(issue, arrivals.flush)

        def run() -> None:
            try:
                loadgen.StartTestWithLogSettings(system, library, _settings(test), _log_to(folder))
            except Exception as error:
                failed.append(error)
            finally:
                arrivals.close()

        short_sleeps()
        thread = threading.Thread(target=run, name="loadgen", daemon=True)
        thread.start()
        give_up_s = max(GIVE_UP_BOUNDS * test.slo_ms / 1e3, GIVE_UP_MIN_S) if test.scenario == "server" else None
        work.runs.clear()
        try:
            with no_collector():
                serve(arrivals, work, answer, give_up_s)
        except Exception as error:  # let LoadGen come to its end before anybody hears of it
            failed.append(error)
            lost = [*arrivals.refuse(), *work.drop()]
            answer(lost)
        thread.join(JOIN_S + test.max_duration_s)
        if failed:
            raise CellError(f"failed under load: {type(failed[0]).__name__}: {failed[0]}") from failed[0]
        if thread.is_alive():
            raise CellError("failed under load: LoadGen did not come to its end")
        loadgen.DestroySUT(system)
        loadgen.DestroyQSL(library)
        summary = (Path(folder) / SUMMARY).read_text()
        told = _results((Path(folder) / DETAIL).read_text())
    return _result(test, told, summary, finished, work, has_exit)


def _settings(test: LoadTest) -> Any:
    import mlperf_loadgen as loadgen

    out = loadgen.TestSettings()
    out.scenario = getattr(loadgen.TestScenario, SCENARIOS[test.scenario])
    out.mode = loadgen.TestMode.PerformanceOnly
    out.min_duration_ms = round(test.min_duration_s * 1e3)
    out.max_duration_ms = round(test.max_duration_s * 1e3)
    out.min_query_count = test.min_queries
    share = test.percentile / 100
    if test.scenario == "server":
        out.server_target_qps = test.expected_per_s
        out.server_target_latency_ns = round(test.slo_ms * 1e6)
        out.server_target_latency_percentile = share
    elif test.scenario == "offline":
        out.offline_expected_qps = test.expected_per_s
    else:
        # it makes as many requests beforehand as fit at this latency: at half of it they can't run out
        out.single_stream_expected_latency_ns = round(0.5e9 / test.expected_per_s)
        out.single_stream_target_latency_percentile = share
    out.schedule_rng_seed = out.sample_index_rng_seed = out.qsl_rng_seed = test.seed
    return out


def _log_to(folder: str) -> Any:
    import mlperf_loadgen as loadgen

    out = loadgen.LogSettings()
    out.log_output.outdir = folder
    out.log_output.copy_summary_to_stdout = False
    out.enable_trace = False
    return out


def _results(detail: str) -> dict[str, Any]:
    """Return the values of the lines `:::MLLOG {"key": ..., "value": ...}` of the detailed log."""
    entries = [json.loads(line.partition(" ")[2]) for line in detail.splitlines() if line.startswith(":::MLLOG ")]
    return {entry["key"]: entry["value"] for entry in entries}


def _result(
    test: LoadTest, told: dict[str, Any], summary: str, finished: Sequence[Request], work: Work, has_exit: bool
) -> LoadResult:
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
        figures=figures(record, work.runs, has_exit) if work.runs else None,
        batch_sizes=dict(sorted(Counter(run.requests for run in work.runs if run.stage == 1).items())),
        summary=summary,
        batches=BatchRecord.of(work.runs, min((one.issued_s for one in finished), default=0.0)),
    )


def _reasons(test: LoadTest, told: dict[str, Any], shed: int, latency_ms: float) -> list[str]:
    """Return why a test says nothing, or that the bound was missed."""
    out = []
    if shed:
        out.append(f"overloaded: {shed} requests were shed because the queue only grew")
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
