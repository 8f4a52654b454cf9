"""Build ahead: what a pool prepares is what the jobs find in the cache, and its failures are left to them."""

from __future__ import annotations

from harness.conduct import ahead
from harness.conduct.ahead import build_ahead, default_jobs
from harness.engines.cache import Cache
from harness.measure.progress import Silent
from harness.prepare import prepare


class Log(Silent):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str, cell: str = "") -> None:
        self.stages.append(name)


def test_what_was_built_ahead_is_found_by_the_jobs(configured, planned, tmp_path, monkeypatch, children):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / "cache"
    common = ("hw=identity", "reference=engine", "engine=onnxruntime", "engine.build_jobs=2", f"cache.dir={folder}")
    configs = [configured("arch=grouped", *common), configured("arch=low_rank", *common)]
    log = Log()
    build_ahead([(config, "onnxruntime") for config in configs], "cpu", log)
    assert log.stages[-1] == "build ahead, 2 of 2 quartets"
    assert children() == []
    for arch in ("grouped", "low_rank"):
        cells = prepare(planned(f"arch={arch}", *common), Cache(folder), Silent())
        assert all(cell.cache_hit for cell in cells.values())


def test_one_at_a_time_is_left_to_the_jobs(configured, monkeypatch):
    monkeypatch.setattr(ahead, "ProcessPoolExecutor", None)  # would fail if it were used
    build_ahead([(configured("hw=fusion", "engine.build_jobs=1"), "onnxruntime")] * 3, "cpu", Silent())
    build_ahead([], "cpu", Silent())


def test_the_number_of_jobs_follows_the_cores(monkeypatch):
    for cores, jobs in ((1, 1), (2, 1), (8, 2), (16, 4), (128, 8)):
        monkeypatch.setattr(ahead.os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert default_jobs() == jobs
