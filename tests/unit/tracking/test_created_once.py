"""A run is created once, whatever is lost or repeated between here and a server."""

from __future__ import annotations

import pytest

from harness.sweep.resume import GRID_TAG, end_dead_sweeps, find_measured, grid_key
from harness.system.processes import this_process
from harness.tracking.liveness import PROCESS_TAG
from harness.tracking.runs import DELIVERY_TAG, children, finish, finish_sweep, start_quartet, start_sweep, sweeps

DEAD = {PROCESS_TAG: f"{this_process().rpartition('/')[0]}/1"}


@pytest.fixture
def served(store):
    """The store as one behind a server, where somebody in between may ask twice."""

    class Served:
        uri = "http://server"

        def __getattr__(self, name):
            return getattr(store, name)

    return Served()


def repeat(monkeypatch, times, answer):
    """Let each request for a run be carried out several times; `answer` says whether the last answer arrives."""
    from mlflow import MlflowClient

    create = MlflowClient.create_run

    def often(self, *arguments, **options):
        for _ in range(times):
            made = create(self, *arguments, **options)
        if not answer:
            raise ConnectionError("504 Gateway Time-out")
        return made

    monkeypatch.setattr(MlflowClient, "create_run", often)


@pytest.mark.parametrize("answer", [True, False], ids=["answered", "answer lost"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_request_that_is_carried_out_several_times_leaves_one_run(served, monkeypatch, times, answer):
    with monkeypatch.context() as patch:
        repeat(patch, times, answer)
        sweep = start_sweep(served, "sweep", {}, {"jobs": 1})
        quartet = start_quartet(served, sweep, "a x b", {"arch": "a"}, {"gpu": "none"})
    (parent,), (child,) = sweeps(served), children(served, sweep)
    assert (parent.info.run_id, child.info.run_id) == (sweep, quartet)
    assert (child.data.params, child.data.tags["gpu"]) == ({"arch": "a"}, "none")


def test_a_request_that_fails_for_good_says_so(served, monkeypatch):
    repeat(monkeypatch, 0, False)
    with pytest.raises(ConnectionError, match="504"):
        start_sweep(served, "sweep", {}, {})
    assert sweeps(served) == []


@pytest.mark.parametrize("late", ["before", "after"])
def test_a_twin_that_a_server_makes_late_is_no_quartet(served, late):
    sweep = start_sweep(served, "sweep", {}, {})
    made = [start_quartet(served, sweep, f"a x b, request {n}", {}, {DELIVERY_TAG: f"key {n}"}) for n in range(2)]
    measured = made[0] if late == "after" else made[1]
    for run_id in made:
        served.client().set_tag(run_id, DELIVERY_TAG, "one key")
    finish(served, measured, "FINISHED")
    assert finish_sweep(served, sweep, 1) == {"FINISHED": 1}
    assert [run.info.run_id for run in children(served, sweep)] == [measured]


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_parents_of_one_start_the_one_with_quartets_is_gone_on_with(store, first):
    tags = {**DEAD, GRID_TAG: grid_key(["one", "two"]), DELIVERY_TAG: "one start"}
    twins = [start_sweep(store, "sweep", {**tags, DELIVERY_TAG: f"{n}"}, {}) for n in range(2)]
    for run_id in twins:
        store.client().set_tag(run_id, DELIVERY_TAG, "one start")
    finish(store, start_quartet(store, twins[first], "one", {}, {"quartet_key": "one"}), "FINISHED")
    end_dead_sweeps(store)
    found = find_measured(store, ["one", "two"], "auto")
    assert (found.sweep_id, set(found.finished)) == (twins[first], {"one"})
