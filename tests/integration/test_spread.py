"""A sweep on two devices of one host, here two simulated GPUs of a core each: shares, deaths, no quartet twice."""

from __future__ import annotations

import re
import subprocess
import threading

import psutil
import pytest

import harness
import warm_starts

pytestmark = pytest.mark.minutes

GRID = (
    "arch=grouped,low_rank", "hw=fusion", "batch_size=1,2", "reference=engine", "engine=onnxruntime",
    "engine.device=cpu", "engine.devices=all",
)  # fmt: skip
BOTH = {"simulated-gpu-0", "simulated-gpu-1"}


@pytest.fixture
def spread(command, new_store, tmp_path, monkeypatch):
    """Return a function: spread("all") -> status, lines and rows of a sweep; `watch` is told each of its lines."""

    def run(*overrides, dead=(), watch=lambda line, process: None):
        root = new_store()
        arguments, environment = command(*GRID, f"tracking.root={root}", *overrides)
        (tmp_path / "dead").mkdir()
        for name in dead:
            (tmp_path / "dead" / name).touch()
        simulated = {"HARNESS_SIMULATED_GPUS": "2", "HARNESS_SIMULATED_DEAD": str(tmp_path / "dead")}
        process = warm_starts.Popen(
            arguments, cwd=tmp_path, env=environment | simulated, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            watch(lines[-1], process)
        return process.wait(), lines, harness.load(uri=f"sqlite:///{root / 'mlflow.db'}")

    return run


def own_children(process):
    """Return the processes below one, without that of the tests which forks them."""
    return [child for child in process.children() if child.name() != warm_starts.NURSERY]


def lost(lines):
    return [line for line in lines if " is lost: " in line]


def each_once(rows):
    assert set(rows["status"]) == {"FINISHED"}
    assert rows["quartet_key"].nunique() == len(rows) == 4


def test_designs_are_shared_out_and_each_row_names_its_device(spread):
    status, lines, rows = spread()
    assert status == 0, lines
    each_once(rows)
    assert set(rows["device"]) == BOTH
    assert rows.groupby("device")["batch_size"].nunique().tolist() == [1, 1]  # what shares cells stays together
    ended = [line for line in lines if re.match(r"\[\d/4\] .* on GPU [01]: done", line)]
    assert len(ended) == 4 and not lost(lines)


def test_a_device_that_is_dead_at_the_start_costs_its_place_alone(spread):
    status, lines, rows = spread(dead=["simulated-gpu-1"])
    assert status == 0, lines
    each_once(rows)
    assert set(rows["device"]) == {"simulated-gpu-0"}
    assert lost(lines) == ["GPU 1 is lost: it is dead (simulated)."]


def test_a_place_that_is_killed_leaves_its_work_to_the_others_and_no_row_twice(spread):
    killed = threading.Event()

    def kill(line, process):
        name = re.search(r"on GPU ([01]): done", line)
        if name is None or killed.is_set():
            return
        killed.set()
        places = [child for child in own_children(psutil.Process(process.pid)) if own_children(child)]
        places[0].kill()

    status, lines, rows = spread(watch=kill)
    assert status == 0, lines
    each_once(rows)
    (line,) = lost(lines)
    assert "its process ended with status -9" in line


def test_without_any_device_every_quartet_says_so(spread):
    status, lines, rows = spread(dead=BOTH)
    assert status == 1
    assert set(rows["status"]) == {"FAILED"} and len(rows) == 4
    assert set(rows["error"]) == {"no device is left to measure on"}
    assert len(lost(lines)) == 2
