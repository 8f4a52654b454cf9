"""LoadGen in a process of its own: what it sends, how it ends, and that it never outlives its server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from harness.serving.client import FLUSH, Client, LoadTest
from harness.system.errors import CellError

TEST = LoadTest(
    "server", 200.0, percentile=90.0, slo_ms=500.0, min_duration_s=0.2, max_duration_s=9.0, min_queries=100, seed=5
)
GONE_WITHIN_S = 20.0


def served(client: Client) -> list[tuple[int, int, float]]:
    """Answer all requests at once until the test is over; return what was sent."""
    out = []
    while client.verdict is None:
        sent = client.read(None)
        client.answer([number for number, image, _ in sent if image != FLUSH])
        out += sent
    return out


def test_requests_come_in_order_with_the_time_of_this_machines_clock_and_are_flushed_at_the_end():
    began = time.perf_counter()
    with Client(TEST) as client:
        sent = served(client)
    requests = [one for one in sent if one[1] != FLUSH]
    times = [seconds for _, _, seconds in requests]
    assert len(requests) >= 100
    assert len({number for number, _, _ in requests}) == len(requests)
    assert all(0 <= image < TEST.sample_count for _, image, _ in requests)
    assert began < times[0]
    assert times == sorted(times)
    assert times[-1] < time.perf_counter()
    assert sent[-1][1] == FLUSH
    assert "Result is : VALID" in client.verdict.summary
    assert client.verdict.values["result_validity"] == "VALID"


def test_a_client_that_dies_ends_the_test_with_its_last_words():
    with Client(TEST) as client:
        client.read(None)
        client._process.send_signal(signal.SIGABRT)
        with pytest.raises(CellError, match="LoadGen ended before its test did: status -6"):
            served(client)


def test_a_client_that_can_not_start_says_why(monkeypatch):
    monkeypatch.setattr("harness.serving.client.MODULE", "harness.serving.nobody")
    with Client(TEST) as client, pytest.raises(CellError, match=r"status 1, .*No module named"):
        client.read(None)


def test_nothing_is_left_of_a_test_that_is_broken_off():
    with Client(TEST) as client:
        process = client._process
        folder = client._folder.name
    assert process.returncode == -signal.SIGKILL
    assert not os.path.exists(folder)


def test_a_server_that_is_killed_takes_its_client_with_it():
    code = (
        "import sys, time; from harness.serving.client import Client, LoadTest;"
        "c = Client(LoadTest('server', 100.0, min_duration_s=60.0)); print(c._process.pid, flush=True); c.read(None);"
        "time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    number = int(server.stdout.readline())
    server.kill()
    server.wait()
    server.stdout.close()
    end = time.monotonic() + GONE_WITHIN_S
    while runs(number) and time.monotonic() < end:
        time.sleep(0.05)
    assert not runs(number)


def runs(number: int) -> bool:
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
