"""The process that measures: it loads the cell as a worker does, then reads every clock in every round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from reading import Absent, Clock, Reading

from harness.config import ProtocolConfig
from harness.measure.cell import Cell
from harness.measure.worker import keep_freed_memory
from harness.system.processes import die_with_parent


@dataclass(frozen=True)
class Asked:
    """How long and how often to look."""

    rounds: int
    slice_s: float
    seed: int  # of the order within a round


@dataclass(frozen=True)
class Measured:
    """What all clocks said."""

    readings: list[Reading]
    absent: list[Absent]
    facts: dict[str, Any]  # of the executable, for environment.json


def measure(cell: Cell, settings: ProtocolConfig, asked: Asked, parent: int) -> Measured:
    """Load, verify, warm up, find out which clocks there are, and read them round after round."""
    die_with_parent(parent)
    if cell.device == "cpu":
        keep_freed_memory()
    from cell import loaded  # torch comes with it, and must find the environment that run.py made

    from harness.system.command import quiet

    quiet()
    with loaded(cell, settings, asked.slice_s) as warm:
        clocks, absent = _clocks(warm)
        facts = {
            **warm.executable.proof,
            "degraded": list(warm.executable.degraded),
            "warm_up_steady": warm.warmup.steady,
        }
        return Measured(_rounds(clocks, asked), absent, facts)


def _clocks(cell: Any) -> tuple[list[Clock], list[Absent]]:
    """Try every clock once, untold: it warms up what is lazy, and one that fails here is absent."""
    from device_clocks import device_clocks
    from host_clocks import host_clocks
    from loadgen_clock import loadgen_clock
    from profiler_clock import profiler_clock

    wanted = [*host_clocks(cell), loadgen_clock(cell)]
    if cell.artifact.plan.engine == "onnxruntime":
        wanted.append(profiler_clock(cell))
    absent = []
    if "device" in cell.boundaries.names:
        wanted += device_clocks(cell)
    elif cell.boundaries.missing:
        absent.append(Absent("all", "device", cell.boundaries.missing, broken=False))
    found = []
    for clock in wanted:
        try:
            clock.measure(True)
            found.append(clock)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            broken = not isinstance(error, ImportError | NotImplementedError)
            absent.append(Absent(clock.name, clock.boundary, f"{type(error).__name__}: {lines[0]}", broken))
    return found, absent


def _rounds(clocks: Sequence[Clock], asked: Asked) -> list[Reading]:
    """Read every clock once a round, in an order drawn anew, and before or after our own slice by lot."""
    from rich.progress import track

    lot = np.random.default_rng(asked.seed)
    readings = []
    for number in track(range(asked.rounds), "rounds", transient=True):
        for index in lot.permutation(len(clocks)):
            readings += [replace(one, round=number) for one in clocks[index].measure(bool(lot.integers(2)))]
    return readings
