"""A disk that fills up in an export, a build or the whole sweep: a clear reason, nothing half-written, no result."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import harness
from harness.engines.build import fetch_or_build
from harness.engines.export import ExportRequest, export
from harness.networks.inputs import one_tensor
from harness.system.cache import Cache
from harness.system.errors import CellError
from harness.techniques.arch.assembled import network

WHOLE = ExportRequest(one_tensor("input", (3, 64, 64)).specs, ("logits",))
NAMESPACES = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0
)
needs_a_mount = pytest.mark.skipif(not NAMESPACES, reason="this machine lets nobody mount in a namespace of their own")


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """Let the operating system refuse what a file would hold beyond a size, here and in child processes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_export_that_finds_no_room_leaves_nothing_and_the_next_one_is_whole(configured, tmp_path):
    config = configured()
    net = network(config.model, config.arch)
    cache = Cache(tmp_path)
    with files_up_to(20_000), pytest.raises(OSError, match="too large"):
        export(net.module, net.fingerprint, WHOLE, cache)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    graph, _, hit = export(net.module, net.fingerprint, WHOLE, cache)
    assert not hit
    assert graph.path.stat().st_size > 20_000


@pytest.mark.spawned  # with the limit of its parent
def test_a_build_that_finds_no_room_is_one_line_and_leaves_nothing(prepared, tmp_path):
    _, cells = prepared("reference=engine")
    plan = cells["baseline"].artifacts[0].plan
    with files_up_to(20_000), pytest.raises(CellError, match=r"^engine onnxruntime: [^\n]+$"):
        fetch_or_build(plan, Cache(tmp_path))
    assert not list(tmp_path.rglob("*.onnx"))
    assert not fetch_or_build(plan, Cache(tmp_path)).hit


def mounted(command: tuple[list[str], dict[str, str]], folder, mount: str) -> subprocess.CompletedProcess:
    """Run a command where `mount` was done to `folder`, which nobody else sees."""
    arguments, environment = command
    script = f'{mount} && exec "$@"'
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *arguments],
        cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@needs_a_mount
@pytest.mark.minutes
def test_a_cache_on_a_full_disk_fails_its_quartets_with_the_reason_and_the_sweep_ends(command, store_root, tmp_path):
    cache = tmp_path / "small"
    cache.mkdir()
    sweep = command("sweep_name=full-disk", "reference=engine", "engine=onnxruntime", "hw=fusion,identity",
                    cache_dir=cache)  # fmt: skip
    done = mounted(sweep, cache, f"mount -t tmpfs -o size=64k tmpfs {cache}")
    assert done.returncode == 1, done.stderr
    frame = harness.load("full-disk", str(store_root))
    assert frame["status"].tolist() == ["FAILED", "FAILED"]
    assert all("No space left on device" in error for error in frame["error"])
    assert "Traceback" not in done.stdout + done.stderr


@needs_a_mount
@pytest.mark.minutes
def test_a_store_that_is_read_only_is_refused_before_any_work(command, swept, tmp_path):
    root = tmp_path / "mlruns"
    assert swept(f"tracking.root={root}", "engine.build_only=true", "hw=fusion").returncode == 0
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    sweep = command("hw=fusion", f"tracking.root={root}", cache_dir=tmp_path / "cache")
    done = mounted(sweep, root, f"mount --bind {root} {root} && mount -o remount,bind,ro {root}")
    assert done.returncode == 2
    assert done.stdout == ""
    assert 1 <= len(done.stderr.splitlines()) <= 2
    assert done.stderr.startswith("harness: can't")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "cache").exists()
