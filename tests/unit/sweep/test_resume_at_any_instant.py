"""A start that is killed at any of its writes to the store loses no finished quartet: the next one finds them all."""

from __future__ import annotations

import pytest

from harness.sweep.resume import (
    CONTINUES_TAG,
    GRID_TAG,
    adopt,
    continuation_tags,
    end_dead_sweeps,
    find_measured,
    grid_key,
)
from harness.system.errors import UserError
from harness.system.processes import this_process
from harness.tracking.liveness import PROCESS_TAG
from harness.tracking.runs import children, finish, finish_sweep, start_quartet, start_sweep, sweeps

KEYS = ["one", "two", "three"]
DEAD = {PROCESS_TAG: f"{this_process().rpartition('/')[0]}/1", GRID_TAG: grid_key(KEYS)}  # ticks that no process has
WRITES = ("create_run", "log_batch", "set_tag", "set_terminated", "delete_tag")


class Killed(BaseException):
    """The process is gone: nothing after this is run."""


def unfinished(store, keys, name="first", **tags) -> str:
    """Leave a sweep as a killed process does: some quartets finished, one under way."""
    sweep = start_sweep(store, name, {**DEAD, **tags}, {})
    for key in keys:
        finish(store, start_quartet(store, sweep, key, {}, {"quartet_key": key}), "FINISHED")
    start_quartet(store, sweep, "under way", {}, {"quartet_key": "three"})
    return sweep


def begin_again(store, name: str) -> tuple[str, dict[str, str]]:
    """Do what `conduct` does at a start; return the new sweep and what it keeps."""
    end_dead_sweeps(store)
    kept = find_measured(store, KEYS, "auto")
    sweep = start_sweep(store, name, DEAD | continuation_tags(kept), {})
    adopt(store, kept, sweep)
    return sweep, kept.finished


@pytest.mark.parametrize("write", range(1, 12))
def test_a_start_killed_at_any_write_loses_nothing(store, dies_at_write, write):
    unfinished(store, ["one", "two"])
    with dies_at_write(write, WRITES, Killed) as calls:
        try:
            begin_again(store, "killed while it began")
        except Killed:
            pass
        else:
            assert len(calls) < write  # it came through before that write
    sweep, kept = begin_again(store, "last")
    assert set(kept) == {"one", "two"}
    assert {run.data.tags["quartet_key"] for run in children(store, sweep)} == {"one", "two"}
    everywhere = [child for one in sweeps(store) for child in children(store, one.info.run_id)]
    finished = [child.data.tags["quartet_key"] for child in everywhere if child.info.status == "FINISHED"]
    assert sorted(finished) == ["one", "two"]  # each once, in one sweep alone
    assert [child for child in everywhere if child.info.status == "RUNNING"] == []


def test_a_sweep_killed_after_its_last_quartet_is_concluded_and_not_measured_anew(store):
    first = unfinished(store, KEYS)
    end_dead_sweeps(store)
    assert store.client().get_run(first).info.status == "KILLED"
    assert set(find_measured(store, KEYS, "auto").finished) == set(KEYS)


def test_a_finished_sweep_is_measured_anew_even_if_an_older_one_is_unfinished(store):
    unfinished(store, ["one"], name="older")
    done = start_sweep(store, "done", DEAD, {})
    for key in KEYS:
        finish(store, start_quartet(store, done, key, {}, {"quartet_key": key}), "FINISHED")
    finish_sweep(store, done, len(KEYS))
    end_dead_sweeps(store)
    assert find_measured(store, KEYS, "auto").finished == {}


def test_failed_and_killed_quartets_run_again(store):
    sweep = start_sweep(store, "some failed", DEAD, {})
    for key, status, error in (("one", "FINISHED", None), ("two", "FAILED", "why"), ("three", "KILLED", "why")):
        finish(store, start_quartet(store, sweep, key, {}, {"quartet_key": key}), status, error)
    end_dead_sweeps(store)
    assert set(find_measured(store, KEYS, "auto").finished) == {"one"}


def test_a_clock_that_is_set_back_does_not_make_an_older_sweep_the_newest(store, monkeypatch):
    unfinished(store, ["one"])
    monkeypatch.setattr("harness.tracking.runs.time.time", lambda: 1000.0)  # 1970
    second, _ = begin_again(store, "second")
    finish(store, start_quartet(store, second, "two", {}, {"quartet_key": "two"}), "FINISHED")
    assert [run.info.run_name for run in sweeps(store)] == ["second", "first"]
    _, kept = begin_again(store, "third")
    assert set(kept) == {"one", "two"}


def test_a_sweep_that_still_runs_is_neither_gone_on_with_nor_robbed(store):
    alive = start_sweep(store, "alive", {**DEAD, PROCESS_TAG: this_process()}, {})
    finish(store, start_quartet(store, alive, "one", {}, {"quartet_key": "one"}), "FINISHED")
    end_dead_sweeps(store)
    assert store.client().get_run(alive).info.status == "RUNNING"
    assert find_measured(store, KEYS, "auto").finished == {}
    with pytest.raises(UserError, match="resume=alive: that sweep still runs"):
        find_measured(store, KEYS, "alive")


def test_sweeps_that_name_each_other_end(store):
    first = unfinished(store, ["one"])
    second = unfinished(store, ["two"], name="second", **{CONTINUES_TAG: first})
    store.client().set_tag(first, CONTINUES_TAG, second)
    assert set(find_measured(store, KEYS, "second").finished) == {"one", "two"}
