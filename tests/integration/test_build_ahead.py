"""Build ahead: what a pool prepares is what the jobs find in the cache, and its failures are left to them."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from harness.measure.progress import Silent
from harness.sweep import ahead
from harness.sweep.ahead import build_ahead, default_jobs
from harness.sweep.build import prepare
from harness.sweep.variants import prepare_variants
from harness.system.cache import Cache


class Log(Silent):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str, cell: str = "") -> None:
        self.stages.append(name)


def test_what_was_built_ahead_is_found_by_the_jobs(planned, tmp_path, monkeypatch, children):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / "cache"
    common = ("hw=identity", "reference=engine", "engine=onnxruntime", "engine.build_jobs=2", f"cache.dir={folder}")
    plans = [planned("arch=grouped", *common), planned("arch=low_rank", *common)]
    log = Log()
    build_ahead(plans, log)
    assert log.stages[-1] == "build ahead, 2 of 2 done"
    assert children() == []
    for arch in ("grouped", "low_rank"):
        cells = prepare(planned(f"arch={arch}", *common), Cache(folder), Silent())
        assert all(cell.cache_hit for cell in cells.values())


def test_the_cells_of_a_lone_quartet_are_built_by_several_at_once(planned, tmp_path, children):
    folder = tmp_path / "cache"
    asked = ("arch=grouped", "hw=fusion", "engine=onnxruntime", "engine.build_jobs=2", f"cache.dir={folder}")
    log = Log()
    build_ahead([planned(*asked)], log)
    assert log.stages[-1] == "build ahead, 2 of 2 done"
    assert all(cell.cache_hit for cell in prepare(planned(*asked), Cache(folder), Silent()).values())


def test_every_static_size_of_a_quartet_under_load_is_built_ahead(planned, tmp_path):
    folder = tmp_path / "cache"
    asked = ("arch=grouped", "hw=fusion", "engine=onnxruntime", "engine.build_jobs=2", f"cache.dir={folder}",
             "scenario=server", "scenario.static_batch_sizes=[1,2]")  # fmt: skip
    build_ahead([planned(*asked)], Silent())
    variants = prepare_variants(planned(*asked), Cache(folder), Silent())
    assert [len(sizes) for sizes in variants.values()] == [2] * 4
    assert all(one.cell.cache_hit for sizes in variants.values() for one in sizes)


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
