"""A build runs in a process of its own: what goes wrong there is one line here, and leaves nothing behind."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from harness.engines import build
from harness.engines.base import BuildPlan, Graph
from harness.engines.build import _answer, artifact_key, check_seal, fetch_or_build
from harness.system.cache import MANIFEST, Cache
from harness.system.errors import CellError
from harness.techniques.levels import BatchProfile


@pytest.mark.spawned
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


@pytest.mark.spawned
def test_a_build_that_passes_its_limit_is_killed(prepared, tmp_path, children):
    _, cells = prepared("reference=engine")
    plan = cells["baseline"].artifacts[0].plan
    with pytest.raises(CellError, match=r"the build passed engine\.build_limit_s=0\.01 and was killed"):
        fetch_or_build(plan, Cache(tmp_path), limit_s=0.01)
    assert children() == []
    assert not list(tmp_path.rglob("*.onnx"))


def test_an_engine_that_ends_its_own_compilations_has_the_limit_for_each_and_is_heard(monkeypatch):
    monkeypatch.setattr("harness.engines.build.CANCEL_GRACE_S", 0.5)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    heard: list[str] = []

    def build(says) -> None:
        for wait_s, message in says:
            time.sleep(wait_s)
            with suppress(BrokenPipeError):  # nobody waits any longer
                theirs.send(message)

    says = [
        (0.05, ("begin", "")),
        (0.05, ("attempt", "level 3")),
        (0.0, ("waited", "0.1")),
        (0.0, ("waited", "0.2")),
        (0.4, ("attempt", "level 2")),
        (0.4, ("status", "half")),
        (0.0, ("ok", 7)),
    ]
    threading.Thread(target=build, args=(says,), daemon=True).start()
    assert _answer(ours, "tensorrt", 0.2, heard.append) == ("ok", 7, pytest.approx(0.3))  # 0.9 s in all
    assert heard == ["level 3", "level 2", "half"]
    threading.Thread(target=build, args=([(0.05, ("attempt", "level 3")), (2.0, ("ok", 7))],), daemon=True).start()
    with pytest.raises(CellError, match=r"engine tensorrt: the build passed engine\.build_limit_s=0\.2 and was killed"):
        _answer(ours, "tensorrt", 0.2, heard.append)


def test_what_a_build_settled_on_is_in_the_key_of_the_artifact_and_not_in_that_of_the_entry(prepared):
    _, cells = prepared("reference=engine")
    artifact = cells["baseline"].artifacts[0]
    assert artifact.key == artifact_key(artifact.plan, artifact.resolved)
    assert artifact_key(artifact.plan, "builder level 2") != artifact_key(artifact.plan, "builder level 3")
    check_seal(artifact)
    with pytest.raises(CellError, match="built for another"):
        check_seal(replace(artifact, resolved="builder level 2"))


def test_an_engines_own_sources_are_in_its_keys_and_no_other_engines(prepared, monkeypatch):
    _, cells = prepared("reference=eager", "hw=fusion")
    plans = [cells[role].artifacts[0].plan for role in ("baseline", "hw")]  # eager, onnxruntime
    before = [artifact_key(plan) for plan in plans]
    digest = build.engine_digest
    monkeypatch.setattr(
        build, "engine_digest", lambda engine: digest(engine) + "x" * (engine.__name__ == "EagerEngine")
    )
    after = [artifact_key(plan) for plan in plans]
    assert before[0] != after[0] and before[1] == after[1]


def test_an_engine_that_refuses_the_graph_says_why_in_one_line(tmp_path):
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a model")
    plan = BuildPlan("onnxruntime", Graph(junk, "5" * 64, (), (), 1), BatchProfile(1, 2, 4))
    with pytest.raises(CellError, match=r"^engine onnxruntime: onnxruntime could not load: [^\n]+$"):
        fetch_or_build(plan, Cache(tmp_path / "cache"))


def test_waiting_for_other_builds_is_no_time_to_build(prepared, tmp_path, monkeypatch):
    plan = prepared("reference=engine")[1]["baseline"].artifacts[0].plan
    real = build._answer
    monkeypatch.setattr(build, "_answer", lambda *given: (*real(*given)[:2], 0.01))
    built = fetch_or_build(plan, Cache(tmp_path))
    (noted,) = tmp_path.rglob(MANIFEST)
    assert built.seconds == pytest.approx(json.loads(noted.read_text())["seconds"] - 0.01)
    assert fetch_or_build(plan, Cache(tmp_path)).seconds == built.seconds  # from the cache too
