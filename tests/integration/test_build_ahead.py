"""Build ahead: what a pool prepares is what the jobs find in the cache, and its failures are left to them."""

from __future__ import annotations

import shutil
from concurrent.futures import Future

import pytest

from harness.measure.progress import Silent
from harness.sweep import ahead
from harness.sweep.ahead import build_ahead, default_jobs
from harness.sweep.build import build_quartet
from harness.sweep.scenarios.under_load import Server
from harness.system.cache import Cache


class Log(Silent):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str, cell: str = "") -> None:
        self.stages.append(name)


@pytest.fixture
def exported(prepared, cache, tmp_path):
    """Return the folder of a cache that has a network's export and no engine: what is built here is engines."""
    _, cells = prepared("hw=identity", "reference=engine")
    (entry,) = {cell.artifacts[0].plan.graph.path.parent for cell in cells.values()}
    shutil.copytree(entry, tmp_path / "cache" / entry.relative_to(cache.root))
    return tmp_path / "cache"


def test_what_was_built_ahead_is_found_by_the_jobs(planned, tmp_path, monkeypatch, children, exported):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    common = ("reference=engine", "engine=onnxruntime", "engine.build_jobs=2", f"cache.dir={exported}")
    plans = [planned("hw=identity", *common), planned("hw=fusion", *common)]
    log = Log()
    build_ahead(plans, log)
    assert log.stages[-1] == "build ahead, 2 of 2 done"
    assert children() == []
    for hw in ("identity", "fusion"):
        cells = build_quartet(planned(f"hw={hw}", *common), Cache(exported), Silent())
        assert all(cell.cache_hit for cell in cells.values())


def test_the_cells_of_a_lone_quartet_are_built_by_several_at_once(planned, exported):
    asked = ("hw=fusion", "engine=onnxruntime", "engine.build_jobs=2", f"cache.dir={exported}")
    log = Log()
    build_ahead([planned(*asked)], log)
    assert log.stages[-1] == "build ahead, 2 of 2 done"
    assert all(cell.cache_hit for cell in build_quartet(planned(*asked), Cache(exported), Silent()).values())


def test_every_static_size_of_a_quartet_under_load_is_built_ahead(planned, exported):
    asked = ("arch=identity", "hw=fusion", "engine=onnxruntime", "engine.build_jobs=2", f"cache.dir={exported}",
             "scenario=server", "scenario.static_batch_sizes=[1,2]")  # fmt: skip
    build_ahead([planned(*asked)], Silent())
    builds = Server().builds(planned(*asked))
    assert [len(plan.cells) for plan, _ in builds] == [4, 4]
    cells = [cell for plan, _ in builds for cell in build_quartet(plan, Cache(exported), Silent()).values()]
    assert all(cell.cache_hit for cell in cells)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_whoever_prepares_the_same_quartet_begins_with_another_cell(planned, monkeypatch, count):
    begun = []

    class Pool:
        _processes = None

        def __init__(self, jobs, **_):
            self.jobs = jobs

        def submit(self, work, plan, turn, *_):
            begun.append((id(plan), turn % 4))
            done = Future()
            done.set_result(None)
            return done

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(ahead, "ProcessPoolExecutor", Pool)
    quartets = [planned("hw=fusion", "engine.build_jobs=8") for _ in range(count)]
    build_ahead(quartets, Silent())
    assert len(set(begun)) == len(begun) == max(count, min(8, 4 * count))


def test_one_at_a_time_is_left_to_the_jobs(planned, monkeypatch):
    monkeypatch.setattr(ahead, "ProcessPoolExecutor", None)  # would fail if it were used
    build_ahead([planned("hw=fusion", "engine.build_jobs=1")] * 3, Silent())
    build_ahead([], Silent())


def test_the_number_of_jobs_follows_the_cores(monkeypatch):
    for cores, jobs in ((1, 1), (2, 1), (8, 2), (16, 4), (128, 8)):
        monkeypatch.setattr(ahead.os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert default_jobs() == jobs
