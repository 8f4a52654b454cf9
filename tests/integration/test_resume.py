"""A sweep that was killed goes on where it stopped: finished quartets are kept, nothing finished is measured twice."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

import harness
import warm_starts
from harness.config import TrackingConfig
from harness.sweep.resume import find_measured
from harness.system.errors import UserError
from harness.tracking import open_store, sweeps

GRID = (
    "reference=engine",
    "engine=onnxruntime",
    "arch=grouped,low_rank",
    "hw=identity",
    "protocol.side_by_side=false",  # or both would end in the same breath
)


@pytest.fixture(scope="module")
def killed(command, new_store):
    """Return the folder of the store of a sweep that was killed after the first of its two quartets."""
    root = new_store("resume")
    arguments, environment = command(*GRID, f"tracking.root={root}", "sweep_name=killed")
    process = warm_starts.Popen(
        arguments, cwd=root.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        if line.startswith("[1/2]") and "done" in line:  # not how far it is, which a slow machine is told too
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
            break
    process.wait(60)
    assert process.returncode == -signal.SIGKILL
    return root


@pytest.fixture(scope="module")
def resumed(killed, swept):
    """Return what the same grid came to, started again."""
    return swept(*GRID, f"tracking.root={killed}", "sweep_name=again")


def test_what_was_finished_is_kept_and_the_rest_is_measured(killed, resumed):
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming sweep killed: 1 of 2 quartets already measured" in resumed.stdout
    assert "[1/2] grouped x identity b2: already measured" in resumed.stdout
    assert "[2/2] low_rank x identity b2: done" in resumed.stdout
    frame = harness.load("again", str(killed))
    assert list(frame["status"]) == ["FINISHED", "FINISHED"]
    assert frame["adopted"].notna().tolist() == [True, False]


def test_the_killed_sweep_says_so_and_keeps_nothing_running(killed, resumed):
    by_name = {run.info.run_name: run for run in sweeps(open_store(TrackingConfig(root=str(killed))))}
    assert by_name["killed"].info.status == "KILLED"
    assert "process ended" in by_name["killed"].data.tags["error"]
    left = harness.load("killed", str(killed))
    assert set(left["status"]) <= {"KILLED"}  # the second quartet, if it had begun


def test_a_finished_sweep_is_measured_anew_and_never_keeps_nothing(killed, resumed):
    store = open_store(TrackingConfig(root=str(killed)))
    keys = harness.load("again", str(killed))["quartet_key"].tolist()
    assert find_measured(store, keys, "auto").finished == {}
    assert find_measured(store, keys[:1], "auto").finished == {}  # another grid, although its quartet is there
    assert find_measured(store, keys, "never").finished == {}
    assert set(find_measured(store, keys, "again").finished) == set(keys)


def test_a_sweep_that_is_not_there_is_refused(killed, resumed):
    with pytest.raises(UserError, match="resume=nowhere: no such sweep"):
        find_measured(open_store(TrackingConfig(root=str(killed))), ["x"], "nowhere")
