"""A minute with one engine: build a small network, load it, verify it, capture it, time it, all as a study does."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.system.errors import CellError, UserError, kind_and_first_line

BATCH_SIZE = 4
ELSEWHERE = "8.9"  # the chip to build for where an engine can only build: every such engine knows it
QUICK = (
    "protocol=quick", "protocol.budget_s=3", "protocol.min_blocks=5", "protocol.max_blocks=10",
    "protocol.slice_s=0.05", "protocol.warmup_min_s=0.5", "protocol.warmup_max_s=3", "protocol.host_bound_restarts=1",
)  # fmt: skip


@dataclass(frozen=True)
class SelfTest:
    """What one engine did with densenet_tiny: at its off level, and with what it accelerates by switched on."""

    engine: str
    hw: str  # the techniques of the accelerated cell
    passed: bool
    seconds: float
    error: str = ""
    build_s: float = 0.0
    max_relative_error: float = 0.0  # of the accelerated cell against fp32 eager
    boundaries: tuple[str, ...] = ()  # empty: it was only built
    no_device: str = ""  # why nothing could be captured
    images_per_s: float = 0.0
    gain: float = 0.0  # accelerated over off level; a tiny network: no figure to quote
    proof: tuple[str, ...] = ()  # how both cells were built, where the engine has levels
    notes: tuple[str, ...] = ()


def self_test(engine: str, device: str, build_only: bool = False, thorough: bool = False) -> SelfTest:
    """Run the test in an empty cache; never raises for what the engine does, only says so.

    With `thorough` the accelerated cell has all that the engine accelerates by, which may take minutes to build.
    """
    hw = "[fp16,fusion]" if build_only else _techniques(engine, device, thorough)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="harness-doctor-") as folder:
            return _run(engine, device, hw, build_only, Path(folder), started)
    except (CellError, UserError) as error:
        reason = str(error)
    except Exception as error:  # a package that misbehaves is what this is for
        reason = kind_and_first_line(error)
    return SelfTest(engine, hw, False, time.monotonic() - started, error=reason)


def _techniques(engine: str, device: str, thorough: bool) -> str:
    """Return the stack that an engine is tested with: what it accelerates by here, if built quickly, or the control."""
    from harness.engines import get
    from harness.techniques.hw.fp16 import FP16

    able, quick = get(engine).capabilities, get(engine).quick
    usable = {"fp16": device == "cuda" and FP16 in able.precisions, "fusion": able.fuses}  # a CPU emulates fp16
    stack = [name for name, there in usable.items() if there and (thorough or name in quick)]
    return f"[{','.join(stack)}]" if len(stack) > 1 else (stack or ["identity"])[0]


def _levels(off: Mapping[str, object], on: Mapping[str, object]) -> tuple[str, ...]:
    """Return builder level, profile and capture of the cell that is off and the one that is on; () without levels."""
    if "builder_level" not in on:
        return ()
    shown = ("builder_level", "profile", "captured", "tiling_level", "engine_layers")
    return tuple(f"{name.replace('_', ' ')}: {off.get(name, '-')} off, {on.get(name, '-')} on" for name in shown)


def _run(engine: str, device: str, hw: str, build_only: bool, folder: Path, started: float) -> SelfTest:
    from harness.measure.lock import building, device_id, device_lock
    from harness.measure.progress import Silent
    from harness.measure.protocol import measure
    from harness.sweep.build import build_quartet
    from harness.sweep.command_line import compose_jobs
    from harness.sweep.plan import plan_quartet
    from harness.system.cache import Cache

    overrides = ["model=densenet_tiny", f"batch_size={BATCH_SIZE}", f"engine={engine}", f"engine.device={device}"]
    if build_only:
        overrides += ["engine.build_only=true", f"engine.compute_capability={ELSEWHERE}"]
    (job,) = compose_jobs([*overrides, "reference=engine", f"hw={hw}", *QUICK])
    plan = plan_quartet(job.config, engine, device)
    with building():
        cells = build_quartet(plan, Cache(folder), Silent())
        build_s = sum(cell.engine_s for cell in cells.values())
        if build_only:
            notes = (*cells["hw"].degraded, f"built for compute capability {ELSEWHERE}, not run")
            return SelfTest(engine, hw, True, time.monotonic() - started, build_s=build_s, notes=notes)
    with device_lock(device_id(plan.device)):
        found = measure(list(cells.values()), plan.config.protocol, plan.primary, Silent())
    loaded = found.cells["hw"].loaded
    off, on = found.samples.throughput(found.primary).mean(axis=0)
    return SelfTest(
        engine=engine,
        hw=hw,
        passed=True,
        seconds=time.monotonic() - started,
        build_s=build_s,
        max_relative_error=found.cells["hw"].fidelity.max_relative,
        boundaries=found.samples.boundaries,
        no_device=loaded.no_device,
        images_per_s=float(on),
        gain=float(on / off),
        proof=_levels(found.cells["baseline"].loaded.proof, loaded.proof),
        notes=tuple(dict.fromkeys([*cells["hw"].degraded, *loaded.degraded, *([found.note] if found.note else [])])),
    )
