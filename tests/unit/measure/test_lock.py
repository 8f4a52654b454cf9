"""Locks: one holder a device, nobody builds while anybody is timed; whatever way a holder ends, it lets go."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.measure.lock import building, device_lock, occupied
from harness.sweep.command_line import compose_jobs
from harness.sweep.refusals import plan_sweep
from harness.system import locks
from harness.system.errors import UserError

ENTERS_S = 60  # until a process that may enter has done so, on a busy machine
STAYS_OUT_S = 0.5  # for which a process that must wait is watched
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def _locks_of_this_test_alone(tmp_path, monkeypatch):
    """Whoever else measures or builds on this machine must not hold up a test, nor a test them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # of the processes that are started
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def lock_of(who: str) -> AbstractContextManager[None]:
    if who == "builder":
        return building()
    return occupied("GPU-a") if who == "training" else device_lock(who)


def _hold(who: str, waits, held) -> None:
    waits.set()
    with lock_of(who):
        held.set()
        time.sleep(600)


@contextmanager
def other_process(who: str):
    """Start a process that takes a lock and keeps it; yield (process, that it has it: an event), kill it in the end."""
    waits, held = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=_hold, args=(who, waits, held), daemon=True)
    process.start()
    try:
        assert waits.wait(ENTERS_S)
        yield process, held
    finally:
        process.kill()
        process.join(ENTERS_S)


def _hold_often(who: str, log: Path, name: str) -> None:
    for _ in range(10):
        with lock_of(who):
            for word in ("in", "out"):
                with open(log, "a") as handle:
                    handle.write(f"{name} {word}\n")
                time.sleep(0.005)


@pytest.mark.parametrize("who", ["GPU-a", "builder"])
def test_two_processes_never_hold_it_at_once(who, tmp_path):
    log = tmp_path / "log"
    processes = [SPAWN.Process(target=_hold_often, args=(who, log, name)) for name in ("one", "other")]
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


@pytest.mark.parametrize(("holds", "waits"), [("GPU-a", "builder"), ("builder", "GPU-a"), ("cpu", "builder")])
def test_who_builds_waits_for_whoever_is_timed_and_the_other_way_round(holds, waits):
    with ExitStack() as other:
        with lock_of(holds):
            _, entered = other.enter_context(other_process(waits))
            assert not entered.wait(STAYS_OUT_S)
        assert entered.wait(ENTERS_S)


@pytest.mark.parametrize(("holds", "waits"), [("GPU-a", "training"), ("training", "GPU-a")])
def test_a_training_and_a_timed_quartet_exclude_each_other_on_a_device(holds, waits):
    with ExitStack() as other:
        with lock_of(holds):
            _, entered = other.enter_context(other_process(waits))
            assert not entered.wait(STAYS_OUT_S)
        assert entered.wait(ENTERS_S)


def test_a_training_holds_up_neither_builds_nor_other_devices():
    with occupied("GPU-a"):
        for who in ("builder", "GPU-b"):
            with other_process(who) as (_, entered):
                assert entered.wait(ENTERS_S)


def test_two_devices_are_timed_at_once_and_a_builder_waits_for_both():
    with other_process("GPU-b") as (_, timed):
        with device_lock("GPU-a"):
            assert timed.wait(ENTERS_S)
        with other_process("builder") as (_, built):
            assert not built.wait(STAYS_OUT_S)


@pytest.mark.parametrize(("killed", "next_one"), [("GPU-a", "GPU-a"), ("builder", "builder"), ("builder", "GPU-a")])
def test_a_holder_that_is_killed_lets_go(killed, next_one):
    with other_process(killed) as (process, held):
        assert held.wait(ENTERS_S)
        os.kill(process.pid, signal.SIGKILL)
        process.join(ENTERS_S)
        with other_process(next_one) as (_, entered):
            assert entered.wait(ENTERS_S)


def test_who_waits_tells_it_again_and_again_and_gives_up_in_the_end(monkeypatch):
    monkeypatch.setenv(locks.LIMIT_VARIABLE, "0.5")
    monkeypatch.setattr(locks, "_TELL_EVERY_S", 0.1)
    told: list[str] = []
    with ExitStack() as stack:
        _, held = stack.enter_context(other_process("GPU-a"))
        assert held.wait(ENTERS_S)
        with pytest.raises(UserError, match=r"waited 0.5 s for a lock that another process holds: .*GPU-a\.lock"):
            stack.enter_context(device_lock("GPU-a", lambda: told.append("waits")))
        assert len(told) >= 2
    monkeypatch.setenv(locks.LIMIT_VARIABLE, str(ENTERS_S))
    with device_lock("GPU-a"):  # the one that gave up holds nothing
        pass


@pytest.mark.parametrize("limit", ["soon", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_of_seconds_is_refused_before_any_work(monkeypatch, limit):
    monkeypatch.setenv(locks.LIMIT_VARIABLE, limit)
    with pytest.raises(UserError, match=f"HARNESS_LOCK_WAIT_S={limit} is not a number of seconds"):
        locks.check_folder()


def test_a_folder_of_locks_that_is_not_there_is_refused_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"can't write the locks in .*nowhere: No such file or directory"):
        locks.check_folder()
    with pytest.raises(UserError, match="can't write the locks in"):
        plan_sweep(compose_jobs(["model=densenet_tiny", "batch_size=2", "hw=fusion"]))
