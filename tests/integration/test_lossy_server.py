"""A real MLflow server behind a proxy that loses answers, refuses, hangs: every row arrives once, in bounded time."""

from __future__ import annotations

import http.client
import multiprocessing
import shutil
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.config import TrackingConfig
from harness.results.row import QuartetRecord
from harness.tracking import finish_sweep, open_store
from harness.tracking.outbox import begin, deliver, hand_over, outbox_of
from harness.tracking.runs import children, start_sweep
from harness.tracking.store import Store

pytestmark = pytest.mark.minutes
WRITERS, ROWS = 4, 10
REQUEST_S = 5  # what MLflow's client waits for an answer, which our default is 30 of: the server hangs for longer
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host"}


def write_rows(store: Store, root: Path, sweep: str, writer: int) -> None:
    """Measure nothing, but hand rows over and deliver them as a sweep does; be one of several such processes."""
    outbox = outbox_of(store, root)
    samples = root / f"samples{writer}.bin"
    samples.write_bytes(bytes(range(256)) * 20)
    for number in range(ROWS):
        quartet = begin(outbox, sweep, f"{writer}.{number}", {"number": number}, {"writer": writer})
        lost = hand_over(outbox, quartet, QuartetRecord(metrics={"value": number}, artifacts={"samples.bin": samples}))
        assert lost is None, lost
        deliver(outbox, at_once=False)


class Proxy(ThreadingHTTPServer):
    """Passes requests on; soon it hangs for a while, then refuses, and it loses every tenth answer always."""

    daemon_threads = True
    hangs, refuses = (1.5, 1.5 + 2.5 * REQUEST_S), (14.5, 19.5)  # seconds after the first request

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind, self.began, self.requests, self.counts = port, None, 0, Counter()
        self.lock = threading.Lock()

    def fate(self):
        with self.lock:
            self.began = self.began or time.monotonic()
            self.requests += 1
            at = time.monotonic() - self.began
            if self.refuses[0] <= at < self.refuses[1]:
                found = "refused"
            elif self.hangs[0] <= at < self.hangs[1]:
                found = "hung"
            else:
                found = "lost" if self.requests % 10 == 0 else "passed"
            self.counts[found] += 1
            return found


class Passing(BaseHTTPRequestHandler):
    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fate = self.server.fate()
        if fate == "hung":
            time.sleep(max(0.0, self.server.began + self.server.hangs[1] - time.monotonic()))
            return self.close()
        if fate == "refused":
            return self.answer(500, {}, b"")
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        upstream.request(self.command, self.path, body, headers)
        found = upstream.getresponse()
        content = found.read()
        upstream.close()
        if fate == "lost":  # the server has done it; who asked never learns of it
            return self.close()
        return self.answer(found.status, dict(found.getheaders()), content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

    def answer(self, status, headers, content):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def close(self):
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_):
        pass


@pytest.fixture
def lossy(empty_database, tmp_path):
    from test_server_goes_away import free_port, server

    shutil.copyfile(empty_database, tmp_path / "server.db")
    port = free_port()
    with server(tmp_path, port), Proxy(port) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy, f"http://127.0.0.1:{proxy.server_address[1]}", f"http://127.0.0.1:{port}"
        proxy.shutdown()


def test_no_row_is_lost_or_doubled_and_the_time_is_bounded(lossy, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_S))
    proxy, uri, straight = lossy
    store = open_store(TrackingConfig(uri=straight))  # begun in peace
    sweep = start_sweep(store, "lossy", {}, {})
    through = Store(uri, store.experiment_id, store.experiment, None)
    spawning = multiprocessing.get_context("spawn")
    writers = [
        spawning.Process(target=write_rows, args=(through, tmp_path, sweep, number)) for number in range(WRITERS)
    ]
    began = time.monotonic()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(400)
    took_s = time.monotonic() - began
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    outbox = outbox_of(through, tmp_path)
    waited = len(list(outbox.folder.glob("*/"))) if outbox.folder.is_dir() else 0
    rounds = 0
    while deliver(outbox):
        rounds += 1
        assert rounds < 40
    finish_sweep(store, sweep, WRITERS * ROWS)
    rows = children(store, sweep)
    assert Counter(run.info.status for run in rows) == {"FINISHED": WRITERS * ROWS}
    assert sorted(run.info.run_name for run in rows) == sorted(f"{w}.{n}" for w in range(WRITERS) for n in range(ROWS))
    for run in rows:
        assert run.data.metrics == {"value": float(run.data.params["number"])}
        assert [file.path for file in store.client().list_artifacts(run.info.run_id)] == ["samples.bin"]
    assert min(proxy.counts[fate] for fate in ("lost", "refused", "hung")) > 0, proxy.counts
    with capsys.disabled():
        print(f"\n{dict(proxy.counts)}; {took_s:.0f} s for the writers, {waited} rows waited, {rounds} further rounds")
    assert took_s < 150
