"""Run one LoadGen test: `python -m harness.serving.client REQUESTS ANSWERS FOLDER TEST`, started by `process.py`.

REQUESTS and ANSWERS are numbers of open pipes, TEST a `LoadTest` as JSON; LoadGen's logs go to FOLDER. Where the server
has gone, its pipe ends, and so does this process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from harness.serving.client.load_test import LoadTest, settings
from harness.serving.client.wire import CLOSE, FLUSH, MESSAGE, NUMBER, unpacked_numbers

SUMMARY, DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"
TURN_S = 1e-4  # what one thread may keep the interpreter for: a request is never handed over 5 ms late


def main(requests: int, answers: int, folder: str, test: LoadTest) -> None:
    """Send what LoadGen issues, tell it what is answered, and at the end send what it says."""
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
        os._exit(1)  # nobody is there to answer the rest

    threading.Thread(target=complete, name="answers", daemon=True).start()
    library = loadgen.ConstructQSL(test.sample_count, test.sample_count, nothing, nothing)
    system = loadgen.ConstructSUT(issue, flush)
    loadgen.StartTestWithLogSettings(system, library, settings(test), _log_to(folder))
    summary, detail = ((Path(folder) / name).read_text() for name in (SUMMARY, DETAIL))
    told = json.dumps({"summary": summary, "told": _results(detail)}).encode()
    send(MESSAGE.pack(len(told), CLOSE, time.perf_counter()) + told)
    os._exit(0)  # the thread that waits for answers would wait on


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
