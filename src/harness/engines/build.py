"""Fetch an artifact from the cache or build it, in a process of its own: a compiler that crashes ends only itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness import __version__
from harness.engines import get
from harness.engines.base import Artifact, BuildPlan
from harness.engines.cache import Cache, key_of
from harness.engines.orphan import die_with_parent, no_interrupts
from harness.environment import cpu_name, gpu
from harness.errors import CellError, UserError, kind_and_first_line


@dataclass(frozen=True)
class Built:
    """An artifact, with how it came to be here."""

    artifact: Artifact
    seconds: float  # that building took, whenever that was
    hit: bool  # it came from the cache


def fetch_or_build(plan: BuildPlan, cache: Cache, timeout_s: float = 1800.0) -> Built:
    """Return the artifact of a plan; raise CellError with the engine's reason, a crash or a hang included."""
    entry = cache.fetch_or_make("engine", artifact_key(plan), lambda folder: _build_isolated(plan, folder, timeout_s))
    meta = entry.meta
    artifact = Artifact(
        plan=plan,
        path=entry.path,
        main_file=meta["main_file"],
        engine_version=meta["engine_version"],
        size_mb=float(meta["size_mb"]),
        proof=dict(meta["proof"]),
        degraded=tuple(meta["degraded"]),
        key=entry.key,
        files=dict(entry.files),
    )
    return Built(artifact, entry.seconds, entry.hit)


def artifact_key(plan: BuildPlan) -> str:
    """Return the SHA-256 of everything that can change the result of a build.

    The graph's content counts, not where it or a timing cache lies; engine version, chip and driver count, because a
    plan built for others must never be loaded.
    """
    parts: dict[str, Any] = asdict(replace(plan, graph=replace(plan.graph, path=Path()), timing_dir=""))
    parts["graph"] = plan.graph.sha256
    chip = gpu() if plan.device == "cuda" else None
    parts["engine_version"] = get(plan.engine).version()
    parts["harness"] = __version__
    parts["cpu"] = cpu_name() if plan.device == "cpu" else None  # optimised for its vector instructions
    parts["gpu"] = [chip[name] for name in ("name", "compute_capability", "driver")] if chip else None
    return key_of(parts)


def _build_isolated(plan: BuildPlan, folder: Path, timeout_s: float) -> Mapping[str, Any]:
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
        if not ours.poll(timeout_s):
            raise CellError(f"engine {plan.engine}: the build hung for {timeout_s:g} s and was killed")
        try:
            status, value = ours.recv()
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
    }


def _child(connection: Connection, plan: BuildPlan, folder: Path, parent: int) -> None:
    die_with_parent(parent)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        reply = ("ok", get(plan.engine).build(plan, folder))
    except (CellError, UserError) as error:
        reply = ("error", str(error))  # type: ignore[assignment]
    except Exception as error:
        reply = ("error", kind_and_first_line(error))  # type: ignore[assignment]
    connection.send(reply)
