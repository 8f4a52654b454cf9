"""A real MLflow server behind a proxy that loses answers, refuses, hangs: every row arrives once, in bounded time."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.config import TrackingConfig
from harness.tracking import finish_sweep, open_store
from harness.tracking.outbox import deliver, outbox_of
from harness.tracking.runs import children, start_sweep
from harness.tracking.store import Store

pytestmark = pytest.mark.minutes
WRITERS, ROWS = 4, 10
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host"}

WRITER = """
import sys
from pathlib import Path
from harness.results.row import QuartetRecord
from harness.tracking.outbox import begin, deliver, hand_over, outbox_of
from harness.tracking.store import Store
uri, experiment_id, experiment, root, sweep, writer, rows = sys.argv[1:]
outbox = outbox_of(Store(uri, experiment_id, experiment, None), root)
samples = Path(root) / f"samples{writer}.bin"
samples.write_bytes(bytes(range(256)) * 20)
for number in range(int(rows)):
    quartet = begin(outbox, sweep, f"{writer}.{number}", {"number": number}, {"writer": writer})
    lost = hand_over(outbox, quartet, QuartetRecord(metrics={"value": number}, artifacts={"samples.bin": samples}))
    assert lost is None, lost
    deliver(outbox, at_once=False)
"""


class Proxy(ThreadingHTTPServer):
    """Passes requests on; from its start on it refuses for a while, then hangs, and loses every tenth answer always."""

    daemon_threads = True
    refuses, hangs = (3.0, 13.0), (16.0, 76.0)  # seconds after the first request

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
def lossy(tmp_path):
    from test_server_goes_away import free_port, server

    port = free_port()
    with server(tmp_path, port), Proxy(port) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy, f"http://127.0.0.1:{proxy.server_address[1]}", f"http://127.0.0.1:{port}"
        proxy.shutdown()


def test_no_row_is_lost_or_doubled_and_the_time_is_bounded(lossy, tmp_path, capsys):
    proxy, uri, straight = lossy
    store = open_store(TrackingConfig(uri=straight))  # begun in peace
    sweep = start_sweep(store, "lossy", {}, {})
    arguments = [sys.executable, "-c", WRITER, uri, store.experiment_id, store.experiment, str(tmp_path), sweep]
    began = time.monotonic()
    writers = [
        subprocess.Popen([*arguments, str(writer), str(ROWS)], stderr=subprocess.PIPE, text=True)
        for writer in range(WRITERS)
    ]
    errors = [writer.communicate(timeout=400)[1] for writer in writers]
    took_s = time.monotonic() - began
    assert [writer.returncode for writer in writers] == [0] * WRITERS, errors
    outbox = outbox_of(Store(uri, store.experiment_id, store.experiment, None), tmp_path)
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
    assert took_s < 300
