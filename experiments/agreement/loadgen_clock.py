"""LoadGen's SingleStream scenario as a clock on `wall`: MLPerf's load generator sends one query after the other."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

from cell import Cell
from reading import Clock, Noted, Reading, in_turn

NAME = "LoadGen SingleStream"


def loadgen_clock(cell: Cell) -> Clock:
    """Return the clock; the package is imported when it is read."""

    def measure(ours_first: bool) -> list[Reading]:
        noted = Noted(cell.boundaries.run)
        count = cell.iterations("wall") | 1  # odd: of an even number, LoadGen's p50 is the upper of the middle two

        def outside() -> dict[str, float]:
            for _ in range(cell.ramp_iterations):
                cell.boundaries.run()
            return single_stream(noted, count)

        ours, result = in_turn(cell.ours("wall"), outside, ours_first)
        p50, average = result["result_50.00_percentile_latency_ns"] / 1e6, result["result_mean_latency_ns"] / 1e6
        return [
            Reading(NAME, "wall", "turns", "median", count, median(ours), p50),
            Reading(NAME, "wall", "same", "mean", count, mean(noted.last(count)), average),
        ]

    return Clock(NAME, "wall", measure)


def single_stream(run: Noted, count: int) -> dict[str, float]:
    """Send `count` queries through LoadGen; return the results of its log, latencies in nanoseconds."""
    import mlperf_loadgen as loadgen

    failed: list[Exception] = []
    thread = threading.get_ident()  # a current stream and an OpenMP pool belong to a thread

    def issue(queries: list[Any]) -> None:
        for query in queries:
            if not failed:
                try:
                    if threading.get_ident() != thread:
                        raise RuntimeError("LoadGen asked from another thread than the one that holds the cell")
                    run()
                except Exception as error:  # one that left a callback would abort the process
                    failed.append(error)
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(query.id, 0, 0)])

    def nothing(*_: Any) -> None:
        """Load, unload and flush: there is one sample, and it is in place."""

    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = 0
    settings.min_query_count = settings.max_query_count = count
    with TemporaryDirectory(prefix="agreement-") as folder:
        log = loadgen.LogSettings()
        log.log_output.outdir = folder
        log.log_output.copy_summary_to_stdout = False
        log.enable_trace = False
        library = loadgen.ConstructQSL(1, 1, nothing, nothing)
        system = loadgen.ConstructSUT(issue, nothing)
        try:
            loadgen.StartTestWithLogSettings(system, library, settings, log)
        finally:
            loadgen.DestroySUT(system)
            loadgen.DestroyQSL(library)
        if failed:
            raise failed[0]
        return _results(Path(folder) / "mlperf_log_detail.txt")


def _results(path: Path) -> dict[str, float]:
    """Return the numbers of the lines `:::MLLOG {"key": "result_...", "value": ...}`."""
    entries = [json.loads(line.removeprefix(":::MLLOG ")) for line in path.read_text().splitlines()]
    return {one["key"]: one["value"] for one in entries if one["key"].startswith("result_")}
