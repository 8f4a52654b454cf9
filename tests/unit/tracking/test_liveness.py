"""Who lives holds something that the dead let go, whatever their process ids mean to others."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from harness.system import processes
from harness.system.processes import this_process
from harness.tracking import liveness
from harness.tracking.liveness import LEASE_S, LEASE_TAG, PROCESS_TAG, forget_the_dead, is_alive, living
from harness.tracking.runs import finish, start_sweep

ELSEWHERE = "this-host 17 another-boot/4026531836/12345"


def sweep_of(store, process=ELSEWHERE, **tags):
    return start_sweep(store, "sweep", {PROCESS_TAG: process, **tags}, {})


def run_of(store, sweep_id):
    return store.client().get_run(sweep_id)


def test_a_sweep_of_another_namespace_lives_as_long_as_it_holds_its_lock(store):
    sweep = sweep_of(store)
    with living(store, sweep):
        assert is_alive(store, run_of(store, sweep))
        forget_the_dead(store)
        assert is_alive(store, run_of(store, sweep))
    assert not is_alive(store, run_of(store, sweep))


def test_who_is_killed_lets_go(store):
    sweep = sweep_of(store)
    code = f"""
import sys, time
from pathlib import Path
from harness.tracking.liveness import living
from harness.tracking.store import Store
store = Store({store.uri!r}, {store.experiment_id!r}, {store.experiment!r}, None)
with living(store, {sweep!r}):
    print("holds", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "holds\n"
        assert is_alive(store, run_of(store, sweep))
        process.kill()
        process.wait()
        assert not is_alive(store, run_of(store, sweep))
    folder = liveness._folder(store)
    assert len(list(folder.iterdir())) == 1  # what a killed process leaves
    forget_the_dead(store)
    assert list(folder.iterdir()) == []


def test_a_container_of_the_same_name_beside_this_one_robs_nobody(store):
    sweep = sweep_of(store, this_process())
    code = f"""
from harness.sweep.resume import end_dead_sweeps
from harness.tracking.store import Store
end_dead_sweeps(Store({store.uri!r}, {store.experiment_id!r}, {store.experiment!r}, None))
print("looked")
"""
    apart = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    with living(store, sweep):
        done = subprocess.run(apart, capture_output=True, text=True, check=False)
        if "looked" not in done.stdout:
            pytest.skip(f"no PID namespace can be made here: {done.stderr.strip().splitlines()[-1:]}")
        assert run_of(store, sweep).info.status == "RUNNING"
    subprocess.run(apart, capture_output=True, text=True, check=True)
    assert run_of(store, sweep).info.status == "KILLED"  # its lock is gone, and there nobody knows its process


def test_what_the_kernel_can_tell_needs_no_lock(store):
    assert is_alive(store, run_of(store, sweep_of(store, this_process())))
    dead = f"{this_process().rpartition('/')[0]}/1"
    assert not is_alive(store, run_of(store, sweep_of(store, dead)))


def test_a_sweep_that_ended_does_not_live(store):
    sweep = sweep_of(store, this_process())
    finish(store, sweep, "FINISHED")
    assert not is_alive(store, run_of(store, sweep))


class Served:
    """A server's store: no file of ours lies beside it."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return "http://server" if name == "uri" else getattr(self.store, name)

    def client(self):
        return self.store.client()


@pytest.mark.parametrize(("lease", "alive"), [(LEASE_S, True), (-1.0, False), (None, True)])
def test_beside_a_server_a_sweep_lives_as_long_as_its_lease(store, lease, alive):
    tags = {} if lease is None else {LEASE_TAG: f"{time.time() + lease:.0f}"}
    sweep = sweep_of(store, **tags)
    assert is_alive(Served(store), run_of(store, sweep)) is alive


def test_a_lease_is_renewed_until_the_sweep_is_over(store, monkeypatch):
    monkeypatch.setattr(liveness, "RENEWED_EVERY_S", 0.02)
    sweep, seen = sweep_of(store), set()
    with living(Served(store), sweep):
        deadline = time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < deadline:
            seen.add(run_of(store, sweep).data.tags.get(LEASE_TAG))
            monkeypatch.setattr(liveness, "LEASE_S", LEASE_S + len(seen) * 100)
            time.sleep(0.02)
    assert len(seen) >= 2


def test_a_system_without_namespaces_asks_for_the_start_alone(monkeypatch):
    monkeypatch.setattr(processes, "_counted_in", lambda: "")
    assert processes.is_running(this_process()) is True
