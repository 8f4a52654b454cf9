"""Whether a sweep's process still runs: whatever the clock does, over a reboot, and for one that nobody waited for."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import psutil
import pytest

from harness.system import processes as process_identity
from harness.system.processes import is_running, this_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def identity_of(pid: int) -> str:
    return f"{socket.gethostname()} {pid} {process_identity._born(pid)}"


def test_this_process_runs_and_a_step_of_the_clock_changes_nothing(monkeypatch):
    before = this_process()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(psutil, "boot_time", lambda: 12345.0)  # what a wall-clock start time is computed from
    assert this_process() == before
    assert is_running(before)


def test_a_process_that_ended_does_not_run_whether_it_was_waited_for_or_not():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(process.pid)
    assert is_running(identity)
    process.kill()
    deadline = time.monotonic() + 10
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(identity)
    process.communicate()
    assert not is_running(identity)


def test_the_same_number_of_another_start_is_another_process():
    host, pid, born = this_process().split(" ")
    place, _, ticks = born.rpartition("/")
    assert is_running(f"{host} {pid} {place}/{int(ticks) - 1}") is False


def test_of_another_machine_boot_or_namespace_nobody_can_tell():
    host, pid, born = this_process().split(" ")
    boot, namespace, ticks = born.split("/")
    assert is_running(f"another-machine {pid} {born}") is None
    assert is_running(f"{host} {pid} {'0' * len(boot)}/{namespace}/{ticks}") is None  # a power failure, or a namesake
    assert is_running(f"{host} {pid} {boot}/{int(namespace) + 1}/{ticks}") is None  # a container beside this one
    assert is_running(f"{host} not-a-number {born}") is None
    assert is_running("") is None
