"""The client: MLPerf LoadGen in a process of its own, so that it never shares an interpreter with what it measures.

`Client` starts `python -m harness.serving.client REQUESTS ANSWERS FOLDER TEST`: the numbers of two pipes, a folder for
LoadGen's logs, a `LoadTest` as JSON. Requests go one way, the numbers of the answered ones the other: the kernel keeps
the order, makes what is written visible, and wakes the reader. A message of the client is a query's number, an image's
and the time of `time.perf_counter()`, which on Linux and macOS is one clock for all processes of a machine. FLUSH and
CLOSE stand in place of an image; the length of CLOSE's JSON in place of the query. When the server ends, so does its
pipe, and with that the client.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from harness.system.errors import CellError

MODULE = __name__  # what the client's process runs
MESSAGE = struct.Struct("<Qqd")
FLUSH, CLOSE = -1, -2
NUMBER = struct.Struct("<Q")
PIPE_BYTES = 1 << 20  # as much as Linux lets a user have: 40,000 requests may wait before LoadGen has to
AT_ONCE = 512 * MESSAGE.size  # what is read in one go takes half a millisecond to decode
OUTPUT = "client.txt"
SUMMARY, DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"
TURN_S = 1e-4  # a thread's share of the interpreter: by default a request could be handed over 5 ms late


@dataclass(frozen=True)
class LoadTest:
    """One LoadGen test."""

    scenario: str  # LoadGen's, in lower case: single_stream | offline | server
    expected_per_s: float  # the rate of the arrivals; else what the server is expected to do, to size the test
    percentile: float = 99.0
    slo_ms: float = 50.0
    give_up_s: float | None = None  # when a request has waited longer, all are shed; None: never
    min_duration_s: float = 2.0
    max_duration_s: float = 60.0
    min_queries: int = 1
    sample_count: int = 64
    seed: int = 0  # of the arrivals' times, and of the order of the images


def settings(test: LoadTest) -> Any:
    """Return LoadGen's settings of a test."""
    import mlperf_loadgen as loadgen

    out = loadgen.TestSettings()
    out.scenario = getattr(loadgen.TestScenario, test.scenario.title().replace("_", ""))
    out.mode = loadgen.TestMode.PerformanceOnly
    out.min_duration_ms = round(test.min_duration_s * 1e3)
    out.max_duration_ms = round(test.max_duration_s * 1e3)
    out.min_query_count = test.min_queries
    of_a_scenario = {  # each scenario has some of these, under its own prefix
        "target_qps": test.expected_per_s,
        "expected_qps": test.expected_per_s,
        # a scenario without a rate makes as many requests beforehand as fit at this latency: at half of it they last
        "expected_latency_ns": round(0.5e9 / test.expected_per_s),
        "target_latency_ns": round(test.slo_ms * 1e6),
        "target_latency_percentile": test.percentile / 100,
    }
    for name, value in of_a_scenario.items():
        if hasattr(out, f"{test.scenario}_{name}"):
            setattr(out, f"{test.scenario}_{name}", value)
    out.schedule_rng_seed = out.sample_index_rng_seed = out.qsl_rng_seed = test.seed
    return out


def packed_numbers(numbers: Sequence[int]) -> bytes:
    """Return numbers as they are sent."""
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def unpacked_numbers(data: bytes) -> tuple[int, ...]:
    """Return the numbers of whole entries."""
    return struct.unpack(f"<{len(data) // NUMBER.size}Q", data)


@dataclass(frozen=True)
class LoadGenReport:
    """What LoadGen reports of a test."""

    summary: str  # its text
    values: dict[str, Any]  # of its detailed log, by name


class Client:
    """One test under way; a context manager, at whose end the process has ended."""

    def __init__(self, test: LoadTest) -> None:
        self._folder = TemporaryDirectory(prefix="harness-loadgen-")
        self._requests, theirs = os.pipe()
        answers, self._answers = os.pipe()
        _widen(theirs)
        os.set_blocking(self._requests, False)
        with (Path(self._folder.name) / OUTPUT).open("wb") as output:
            command = [sys.executable, "-m", MODULE, str(theirs), str(answers), self._folder.name]
            self._process = subprocess.Popen(
                [*command, json.dumps(asdict(test))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # the same code as here
                pass_fds=(theirs, answers),
                start_new_session=True,  # Ctrl-C is for the server
            )
        os.close(theirs)
        os.close(answers)
        self._rest = b""
        self.verdict: LoadGenReport | None = None  # known when the test is over

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._requests)
        os.close(self._answers)
        self._folder.cleanup()

    def read(self, timeout_s: float | None = 0.0) -> list[tuple[int, int, float]]:
        """Return what the client has sent: (query's number, image or FLUSH, seconds); wait for it at most `timeout_s`.

        At the end of the test `verdict` is set. Raise CellError if the client ended before that.
        """
        if timeout_s != 0:
            select.select([self._requests], [], [], timeout_s)
        try:
            data = os.read(self._requests, AT_ONCE)
        except BlockingIOError:
            return []
        if not data:
            raise CellError(f"LoadGen ended before its test did: {self._last_words()}")
        self._rest += data
        whole = len(self._rest) // MESSAGE.size * MESSAGE.size
        out: list[tuple[int, int, float]] = []
        for at in range(0, whole, MESSAGE.size):
            number, image, seconds = MESSAGE.unpack_from(self._rest, at)
            if image == CLOSE:
                self._close(self._rest[at + MESSAGE.size :], number)
                return out
            out.append((number, image, seconds))
        self._rest = self._rest[whole:]
        return out

    def answer(self, numbers: Sequence[int]) -> None:
        """Tell the client which queries are answered."""
        data = packed_numbers(numbers)
        try:
            while data:
                data = data[os.write(self._answers, data) :]
        except BrokenPipeError:
            raise CellError(f"LoadGen ended before its test did: {self._last_words()}") from None

    def _close(self, report: bytes, length: int) -> None:
        os.set_blocking(self._requests, True)
        while len(report) < length:
            more = os.read(self._requests, length - len(report))
            if not more:
                raise CellError(f"LoadGen ended before its report was complete: {self._last_words()}")
            report += more
        found = json.loads(report)
        self.verdict = LoadGenReport(found["summary"], found["values"])

    def _last_words(self) -> str:
        status = self._process.wait()
        lines = (Path(self._folder.name) / OUTPUT).read_text(errors="replace").strip().splitlines()
        return f"status {status}" + (f", {lines[-1]}" if lines else "")


def _widen(pipe: int) -> None:
    """Enlarge a pipe's buffer, if the system can (Linux)."""
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            return


def main(requests: int, answers: int, folder: str, test: LoadTest) -> None:
    """Send LoadGen's requests, pass it the answers, and send its report at the end."""
    import mlperf_loadgen as loadgen

    sys.setswitchinterval(TURN_S)

    def send(data: bytes) -> None:
        while data:
            data = data[os.write(requests, data) :]

    def issue(queries: list[Any]) -> None:
        now = time.perf_counter()
        send(b"".join([MESSAGE.pack(query.id, query.index, now) for query in queries]))

    def flush() -> None:
        send(MESSAGE.pack(0, FLUSH, time.perf_counter()))

    def nothing(*_: Any) -> None:
        """Load and unload: the server has the images."""

    def complete() -> None:
        rest = b""
        while data := os.read(answers, 1 << 16):
            rest += data
            whole = len(rest) // NUMBER.size * NUMBER.size
            numbers, rest = unpacked_numbers(rest[:whole]), rest[whole:]
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(number, 0, 0) for number in numbers])
        os._exit(1)  # the server has ended

    threading.Thread(target=complete, name="answers", daemon=True).start()
    library = loadgen.ConstructQSL(test.sample_count, test.sample_count, nothing, nothing)
    system = loadgen.ConstructSUT(issue, flush)
    loadgen.StartTestWithLogSettings(system, library, settings(test), _log_to(folder))
    summary, detail = ((Path(folder) / name).read_text() for name in (SUMMARY, DETAIL))
    report = json.dumps({"summary": summary, "values": _results(detail)}).encode()
    send(MESSAGE.pack(len(report), CLOSE, time.perf_counter()) + report)
    os._exit(0)  # the thread that reads answers would block forever


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


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], LoadTest(**json.loads(sys.argv[4])))
