"""Fetch an artifact from the cache or build it, in a process of its own: a compiler that crashes ends only itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache as memoised
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.config.sources import is_profiler, modules_of, source_digest
from harness.engines import get
from harness.engines.base import Artifact, BuildPlan, Engine, listen_to_builds
from harness.system.cache import Cache, intact, key_of
from harness.system.errors import CellError, UserError, kind_and_first_line
from harness.system.machine import cpu_name, gpu
from harness.system.processes import die_with_parent, no_interrupts

CANCEL_GRACE_S = 60.0  # for a builder that cancels its own compilation: it looks up about once a second, then cleans up


@dataclass(frozen=True)
class Built:
    """An artifact, with how it came to be here."""

    artifact: Artifact
    seconds: float  # that building took, whenever that was, without waiting for other builds
    hit: bool  # it came from the cache


def fetch_or_build(
    plan: BuildPlan, cache: Cache, limit_s: float = 1800.0, watch: Callable[[str], None] | None = None
) -> Built:
    """Return the artifact of a plan; raise CellError with the engine's reason, a crash included.

    A compilation that takes longer than `limit_s` is stopped; an engine may then try another one, with as much time.
    `watch` is called with where the build is, while it runs, by engines that can tell.
    """
    entry = cache.fetch_or_make(
        "engine", artifact_key(plan), lambda folder: _build_isolated(plan, folder, limit_s, watch or _ignore)
    )
    meta = entry.meta
    artifact = Artifact(
        plan=plan,
        path=entry.path,
        main_file=meta["main_file"],
        engine_version=meta["engine_version"],
        size_mb=float(meta["size_mb"]),
        proof=dict(meta["proof"]),
        degraded=tuple(meta["degraded"]),
        resolved=meta["resolved"],
        key=artifact_key(plan, meta["resolved"]),
        files=dict(entry.files),
    )
    return Built(artifact, entry.seconds - float(meta.get("waited_s", 0.0)), entry.hit)


def artifact_key(plan: BuildPlan, resolved: str = "") -> str:
    """Return the SHA-256 of everything that can change the result of a build.

    The graph's content counts, not where it or a timing cache lies; engine version, chip and driver count, because a
    plan built for others must never be loaded. `resolved`: what the build chose where the plan left it a choice; the
    cache's entry has the key without it: only that can be known before.
    """
    parts: dict[str, Any] = asdict(replace(plan, graph=replace(plan.graph, path=Path()), timing_dir=""))
    parts["graph"] = plan.graph.sha256
    chip = gpu() if plan.device == "cuda" else None
    parts["engine_version"] = get(plan.engine).version()
    parts["sources"] = engine_digest(type(get(plan.engine)))
    parts["resolved"] = resolved
    parts["cpu"] = cpu_name() if plan.device == "cpu" else None  # optimised for its vector instructions
    parts["gpu"] = [chip[name] for name in ("name", "compute_capability", "driver")] if chip else None
    return key_of(parts)


@memoised
def engine_digest(engine: type, profiler: bool = False) -> str:
    """Return the SHA-256 of an engine's folder, and of what its files import of this room: they build and run.

    Its profiler does neither: it is left out, or digested alone.
    """
    shared = (Engine, *Engine.__mro__)  # the contract itself, which everybody's files import
    defined = [kind.__module__ for kind in engine.__mro__ if kind not in shared]
    found = {name for module in defined for name in (module, *modules_of(module.rpartition(".")[0] or module))}
    return source_digest(name for name in found if is_profiler(name) == profiler)


def _ignore(text: str) -> None:
    """Watch nothing."""


def _build_isolated(plan: BuildPlan, folder: Path, limit_s: float, watch: Callable[[str], None]) -> Mapping[str, Any]:
    """Build into `folder` in a spawned process; return the artifact's notes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_child, args=(theirs, plan, folder, os.getpid()), name=f"harness-build-{plan.engine}", daemon=True
    )
    with no_interrupts():
        process.start()
    theirs.close()
    answered = False
    try:
        status, value, waited_s = _answer(ours, plan.engine, limit_s, watch)
        answered = True
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        raise CellError(f"engine {plan.engine}: the build process {how}") from None
    finally:
        if answered:
            process.join(1.0)
        process.kill()  # no matter if it has ended; an interrupt does not wait for a compiler
        process.join()
        ours.close()
    if status == "error":
        raise CellError(f"engine {plan.engine}: {value}")
    artifact: Artifact = value
    return {
        "main_file": artifact.main_file,
        "engine_version": artifact.engine_version,
        "size_mb": artifact.size_mb,
        "proof": dict(artifact.proof),
        "degraded": list(artifact.degraded),
        "resolved": artifact.resolved,
        "waited_s": waited_s,
    }


def _answer(
    connection: Connection, engine: str, limit_s: float, watch: Callable[[str], None]
) -> tuple[str, Any, float]:
    """Return the builder's reply and for how long it waited for others, passing on what it says meanwhile.

    Raises CellError when its time is over.

    The limit counts from "begin", when its process has come up. An engine that says when it starts a compilation
    ("attempt") ends it by itself: it is given some seconds more to do so.
    """
    deadline, waited_s = time.monotonic() + limit_s + CANCEL_GRACE_S, 0.0
    while True:
        if not connection.poll(max(0.0, deadline - time.monotonic())):
            raise CellError(f"engine {engine}: the build passed engine.build_limit_s={limit_s:g} and was killed")
        kind, value = connection.recv()
        if kind == "waited":
            waited_s += float(value)
            continue
        if kind not in ("begin", "attempt", "status"):
            return kind, value, waited_s
        if kind != "status":
            deadline = time.monotonic() + limit_s + (CANCEL_GRACE_S if kind == "attempt" else 0.0)
        if value:
            watch(value)


def _child(connection: Connection, plan: BuildPlan, folder: Path, parent: int) -> None:
    die_with_parent(parent)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    listen_to_builds(lambda kind, text: connection.send((kind, text)))
    connection.send(("begin", ""))
    try:
        reply = ("ok", get(plan.engine).build(plan, folder))
    except (CellError, UserError) as error:
        reply = ("error", str(error))  # type: ignore[assignment]
    except Exception as error:
        reply = ("error", kind_and_first_line(error))  # type: ignore[assignment]
    connection.send(reply)


def check_seal(artifact: Artifact) -> None:
    """Raise CellError unless the artifact's key is the one of this plan on this machine and its files are unchanged.

    The key holds engine and version, GPU, compute capability and driver (or the CPU), graph and options.
    """
    name = artifact.plan.engine
    if not artifact.key or artifact.main_file not in artifact.files:
        raise CellError(f"engine {name}: an artifact that did not come through the cache is not loaded")
    if artifact.key != artifact_key(artifact.plan, artifact.resolved):
        raise CellError(
            f"engine {name}: built for another engine version, GPU, driver or plan than the one here: build it again"
        )
    if not intact(artifact.path, artifact.files):
        raise CellError(f"engine {name}: the artifact was changed since it was built: it is not loaded")
