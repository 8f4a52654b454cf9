"""The artifact cache: made once, taken whole, never wrong."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest

from harness.system.cache import MANIFEST, Cache, key_of
from harness.system.errors import CellError

KEY, OTHER = "ab" + "0" * 62, "ab" + "1" * 62


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


def replace_by_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("a file")


def replace_the_folder_above_by_a_file(entry: Path) -> None:
    shutil.rmtree(entry.parent)
    entry.parent.write_text("a file")


@pytest.mark.parametrize(
    "damage",
    [
        replace_by_a_file,
        replace_the_folder_above_by_a_file,
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


@pytest.mark.spawned
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
