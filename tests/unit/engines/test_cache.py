"""The artifact cache: made once, taken whole, never wrong; and the key, which is everything that changes a build."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from harness.engines.base import BatchProfile, BuildPlan, Graph, TensorSpec
from harness.engines.build import artifact_key, fetch_or_build
from harness.engines.cache import MANIFEST, Cache, key_of
from harness.engines.onnxruntime import ONNXRUNTIME
from harness.errors import CellError

KEY, OTHER = "ab" + "0" * 62, "ab" + "1" * 62

GRAPH = Graph(
    Path("/somewhere/model.onnx"),
    "5" * 64,
    (TensorSpec("input", (-1, 3, 64, 64), "float32"),),
    (TensorSpec("logits", (-1, 10), "float32"),),
    100,
)
PLAN = BuildPlan("onnxruntime", GRAPH, BatchProfile(2, 2, 2), options=(("threads", 2),))

# for every field of BuildPlan a value that would change what is built
CHANGES = {
    "engine": "inductor",
    "graph": replace(GRAPH, sha256="6" * 64),
    "batch": BatchProfile(1, 2, 2),
    "precision": "fp16",
    "fusion": "max",
    "cuda_graph": True,
    "tf32": True,
    "device": "cuda",
    "compute_capability": (8, 9),
    "instance": "hw-identity",
    "recipe": "{}",
    "stage": "stage1",
    "options": (("threads", 1),),
    "profiles": (BatchProfile(2, 2, 2), BatchProfile(1, 1, 1)),
}


class Maker:
    """Writes files and counts how often it was asked to."""

    def __init__(self, **files: str) -> None:
        self.files = files or {"engine.bin": "engine"}
        self.calls = 0

    def __call__(self, folder: Path) -> dict[str, object]:
        self.calls += 1
        for name, text in self.files.items():
            (folder / name).write_text(text)
        return {"size": len(self.files)}


@pytest.fixture
def store(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


def test_what_was_made_for_a_sweep_is_found_but_is_no_hit_of_it_whatever_the_clock_does(tmp_path, monkeypatch):
    maker = Maker()
    Cache(tmp_path, "this one").fetch_or_make("engine", KEY, maker)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # set back by decades
    found = Cache(tmp_path, "this one").fetch_or_make("engine", KEY, maker)
    assert (maker.calls, found.hit) == (1, False)
    assert Cache(tmp_path, "another one").fetch_or_make("engine", KEY, maker).hit
    assert Cache(tmp_path).fetch_or_make("engine", KEY, maker).hit


def test_the_first_request_makes_and_the_second_takes_the_same_files(store):
    maker = Maker(a="1", b="2")
    first = store.fetch_or_make("engine", KEY, maker)
    second = store.fetch_or_make("engine", KEY, maker)
    assert (first.hit, second.hit, maker.calls) == (False, True, 1)
    assert first.path == second.path
    assert {file.name: file.read_text() for file in second.path.iterdir() if file.name != MANIFEST} == maker.files
    assert (second.meta, second.seconds) == ({"size": 2}, first.seconds)


def test_another_key_or_kind_is_another_entry(store):
    maker = Maker()
    entries = [store.fetch_or_make(kind, key, maker) for kind, key in (("a", KEY), ("a", OTHER), ("b", KEY))]
    assert maker.calls == 3
    assert len({entry.path for entry in entries}) == 3


def test_a_cache_finds_what_another_one_on_the_same_folder_made(store, tmp_path):
    store.fetch_or_make("engine", KEY, Maker())
    assert Cache(tmp_path / "cache").fetch_or_make("engine", KEY, Maker()).hit


def truncate(entry: Path) -> None:
    (entry / "engine.bin").write_text("eng")


def flip_a_byte(entry: Path) -> None:
    (entry / "engine.bin").write_text("engina")


def lose_a_file(entry: Path) -> None:
    (entry / "engine.bin").unlink()


def cut_the_manifest(entry: Path) -> None:
    text = (entry / MANIFEST).read_text()
    (entry / MANIFEST).write_text(text[: len(text) // 2])


def lose_the_manifest(entry: Path) -> None:
    (entry / MANIFEST).unlink()


def manifest_of_nonsense(entry: Path) -> None:
    (entry / MANIFEST).write_text(json.dumps({"key": KEY, "files": 3, "meta": {}, "seconds": 0}))


def change_the_seconds(entry: Path) -> None:
    manifest = json.loads((entry / MANIFEST).read_text())
    (entry / MANIFEST).write_text(json.dumps({**manifest, "seconds": 1e-9}))


def add_a_file(entry: Path) -> None:
    (entry / "beside.data").write_text("weights that nobody exported")


def link_a_file(entry: Path) -> None:
    (entry / "engine.bin").rename(entry.parent / "outside")
    (entry / "engine.bin").symlink_to(entry.parent / "outside")


def link_the_entry(entry: Path) -> None:
    entry.rename(entry.parent / "outside")
    entry.symlink_to(entry.parent / "outside")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_byte,
        lose_a_file,
        cut_the_manifest,
        lose_the_manifest,
        manifest_of_nonsense,
        change_the_seconds,
        add_a_file,
        link_a_file,
        link_the_entry,
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_entry_is_made_anew(store, damage):
    maker = Maker()
    damage(store.fetch_or_make("engine", KEY, maker).path)
    repaired = store.fetch_or_make("engine", KEY, maker)
    assert (repaired.hit, maker.calls) == (False, 2)
    assert {path.name for path in repaired.path.iterdir()} == {"engine.bin", MANIFEST}
    assert not repaired.path.is_symlink()
    assert (repaired.path / "engine.bin").read_text() == "engine"
    assert store.fetch_or_make("engine", KEY, maker).hit


@pytest.mark.parametrize(("kind", "key"), [("engine", "../../outside"), ("..", KEY), ("engine", "/tmp/x"), ("", KEY)])
def test_a_key_that_leads_out_of_the_cache_is_refused(store, kind, key):
    maker = Maker()
    with pytest.raises(ValueError, match="not the name of a cache entry"):
        store.fetch_or_make(kind, key, maker)
    assert maker.calls == 0


def test_a_file_that_belongs_to_another_entry_is_not_taken(store):
    one, other = Maker(**{"engine.bin": "one"}), Maker(**{"engine.bin": "other"})
    paths = [store.fetch_or_make("engine", KEY, one).path, store.fetch_or_make("engine", OTHER, other).path]
    shutil.copy(paths[1] / "engine.bin", paths[0] / "engine.bin")
    assert (store.fetch_or_make("engine", KEY, one).path / "engine.bin").read_text() == "one"
    # the whole folder of another entry is intact in itself, and still not the one that was asked for
    shutil.rmtree(paths[0])
    shutil.copytree(paths[1], paths[0])
    assert (store.fetch_or_make("engine", KEY, one).path / "engine.bin").read_text() == "one"
    assert one.calls == 3


def test_a_maker_that_raises_leaves_nothing_and_its_reason_passes_through(store):
    def broken(folder: Path):
        (folder / "half.bin").write_text("half")
        raise CellError("no tactic found")

    with pytest.raises(CellError, match="no tactic found"):
        store.fetch_or_make("engine", KEY, broken)
    assert [path.name for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert not store.fetch_or_make("engine", KEY, Maker()).hit


def test_a_half_written_temporary_folder_is_not_an_entry(store):
    """As a process leaves it that was killed while it made one."""
    folder = store.root / "engine" / KEY[:2]
    half = folder / f".{KEY[:12]}-killed"
    half.mkdir(parents=True)
    (half / "engine.bin").write_text("eng")
    maker = Maker()
    entry = store.fetch_or_make("engine", KEY, maker)
    assert (entry.hit, maker.calls) == (False, 1)
    assert (entry.path / "engine.bin").read_text() == "engine"
    assert not half.exists()  # nor does it stay


def _make_slowly(root: Path, log: Path, start) -> None:
    def slow(folder: Path):
        with open(log, "a") as handle:
            handle.write("made\n")
        time.sleep(0.3)
        (folder / "engine.bin").write_text("engine")
        return {}

    start.wait()
    entry = Cache(root).fetch_or_make("engine", KEY, slow)
    with open(log, "a") as handle:
        handle.write(f"hit={entry.hit}\n")


def test_two_processes_at_once_make_it_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    log = tmp_path / "log"
    processes = [context.Process(target=_make_slowly, args=(tmp_path / "cache", log, start)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(log.read_text().split()) == ["hit=False", "hit=True", "made"]


def test_a_key_does_not_depend_on_the_order_of_names_and_refuses_what_has_no_one_text():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of({"a": float("nan")})


@pytest.mark.parametrize("field", [field.name for field in fields(BuildPlan) if field.name != "timing_dir"])
def test_every_field_of_a_plan_that_changes_what_is_built_is_in_its_key(field):
    changed = replace(PLAN, **{field: CHANGES[field]})
    assert getattr(changed, field) != getattr(PLAN, field)
    assert artifact_key(changed) != artifact_key(PLAN)


@pytest.mark.parametrize("batch", [(1, 4, 8), (1, 4, 9), (1, 5, 8), (2, 4, 8)])
def test_every_bound_of_the_batch_is_in_the_key(batch):
    others = {(1, 4, 8), (1, 4, 9), (1, 5, 8), (2, 4, 8)} - {batch}
    keys = {artifact_key(replace(PLAN, batch=BatchProfile(*other))) for other in others}
    assert artifact_key(replace(PLAN, batch=BatchProfile(*batch))) not in keys


def test_where_a_timing_cache_lies_is_not_in_the_key():
    assert artifact_key(replace(PLAN, timing_dir="/elsewhere")) == artifact_key(PLAN)


@pytest.mark.parametrize("fact", ["driver", "name", "compute_capability"])
def test_another_driver_or_gpu_has_another_key_where_the_gpu_counts(monkeypatch, fact):
    chip = {"name": "an L4", "compute_capability": "8.9", "driver": "580.1"}
    on_gpu = replace(PLAN, device="cuda")
    keys = {"cuda": set(), "cpu": set()}
    for found in (chip, {**chip, fact: "another"}):
        monkeypatch.setattr("harness.engines.build.gpu", lambda found=found: found)
        keys["cuda"].add(artifact_key(on_gpu))
        keys["cpu"].add(artifact_key(PLAN))
    assert (len(keys["cuda"]), len(keys["cpu"])) == (2, 1)


def test_where_the_graph_lies_is_not_in_the_key():
    moved = replace(PLAN, graph=replace(GRAPH, path=Path("/elsewhere/other.onnx")))
    assert artifact_key(moved) == artifact_key(PLAN)


def test_another_version_of_the_engine_has_another_key(monkeypatch):
    before = artifact_key(PLAN)
    monkeypatch.setattr(type(ONNXRUNTIME), "version", lambda self: "0.0.1")
    assert artifact_key(PLAN) != before


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
    plan = replace(PLAN, graph=replace(GRAPH, path=junk), batch=BatchProfile(1, 2, 4))
    with pytest.raises(CellError, match=r"^engine onnxruntime: onnxruntime could not load: [^\n]+$"):
        fetch_or_build(plan, Cache(tmp_path / "cache"))
