"""A build runs in a process of its own: what goes wrong there is one line here, and leaves nothing behind."""

from __future__ import annotations

import threading
import time

import pytest

from harness.engines.base import BuildPlan, Graph
from harness.engines.build import fetch_or_build
from harness.engines.cache import Cache
from harness.engines.levels import BatchProfile
from harness.errors import CellError


def test_a_build_runs_in_a_process_of_its_own_and_a_kill_there_is_one_line_here(prepared, tmp_path, children):
    _, cells = prepared("reference=engine")
    plan = cells["baseline"].artifacts[0].plan
    store = Cache(tmp_path)

    def kill_the_builder() -> None:
        while not (found := children()):
            time.sleep(0.005)
        found[0].kill()

    killer = threading.Thread(target=kill_the_builder, daemon=True)
    killer.start()
    with pytest.raises(CellError, match=r"^engine onnxruntime: the build process died of SIGKILL$"):
        fetch_or_build(plan, store)
    killer.join(10)
    assert children() == []
    assert not list(tmp_path.rglob("*.onnx"))
    built = fetch_or_build(plan, store)  # nothing of the crash is in the way
    again = fetch_or_build(plan, store)
    assert (built.hit, again.hit) == (False, True)
    assert again.artifact == built.artifact


def test_a_build_that_hangs_is_killed(prepared, tmp_path, children):
    _, cells = prepared("reference=engine")
    plan = cells["baseline"].artifacts[0].plan
    with pytest.raises(CellError, match=r"the build hung for 0\.01 s and was killed"):
        fetch_or_build(plan, Cache(tmp_path), timeout_s=0.01)
    assert children() == []
    assert not list(tmp_path.rglob("*.onnx"))


def test_an_engine_that_refuses_the_graph_says_why_in_one_line(tmp_path):
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a model")
    plan = BuildPlan("onnxruntime", Graph(junk, "5" * 64, (), (), 1), BatchProfile(1, 2, 4))
    with pytest.raises(CellError, match=r"^engine onnxruntime: onnxruntime could not load: [^\n]+$"):
        fetch_or_build(plan, Cache(tmp_path / "cache"))
