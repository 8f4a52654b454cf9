"""Locks: one holder a device, nobody builds while anybody is timed; whatever way a holder ends, it lets go."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

from harness.measure.lock import device_lock

DEVICE = f"GPU-test-{os.getpid()}"


def _hold_often(device: str, log: Path, name: str) -> None:
    for _ in range(10):
        with device_lock(device):
            for word in ("in", "out"):
                with open(log, "a") as handle:
                    handle.write(f"{name} {word}\n")
                time.sleep(0.005)


def _hold_for_ever(device: str, held) -> None:
    with device_lock(device):
        held.set()
        time.sleep(600)


def test_two_processes_never_hold_it_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    processes = [context.Process(target=_hold_often, args=(DEVICE, log, name)) for name in ("one", "other")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    lines = log.read_text().splitlines()
    assert len(lines) == 40
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert entered.endswith(" in")
        assert left == entered.replace(" in", " out")
    assert {line.split()[0] for line in lines} == {"one", "other"}


def test_a_holder_that_is_killed_lets_go(tmp_path):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=_hold_for_ever, args=(DEVICE, held), daemon=True)
    process.start()
    assert held.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    started = time.monotonic()
    with device_lock(DEVICE):
        assert time.monotonic() - started < 5


def test_another_device_is_another_lock():
    with device_lock(DEVICE), device_lock(DEVICE + "-other"):
        pass
