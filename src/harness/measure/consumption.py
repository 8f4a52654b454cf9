"""What a cell costs beside time: energy an image under sustained load, and the memory its process holds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.config import ProtocolConfig
from harness.measure.cell import SustainedLoad
from harness.measure.coordinator import Worker
from harness.measure.telemetry import Telemetry

POLL_S = 0.005  # NVML's energy counter moves every 100 ms on a Hopper chip; a call takes 3 ms


@dataclass(frozen=True)
class Consumption:
    """Of one cell; None where the machine does not tell."""

    energy_j_per_image: float | None = None
    device_memory_mb: float | None = None  # CUDA context included; allocators keep their peak
    host_memory_mb: float | None = None  # peak resident set


def consumption(
    handles: Mapping[str, Worker], batch_size: int, settings: ProtocolConfig, telemetry: Telemetry
) -> dict[str, Consumption]:
    """Return what each cell consumes, by role: after the timed blocks, so that it disturbs none of them."""
    out = {}
    for role, handle in handles.items():
        energy = None
        if settings.energy_s and telemetry.joules() is not None:
            energy = _energy_per_image(handle, batch_size, settings, telemetry)
        out[role] = Consumption(energy, telemetry.device_memory_mb(handle.pid), _peak_resident_mb(handle.pid))
    return out


def _energy_per_image(handle: Worker, batch_size: int, settings: ProtocolConfig, telemetry: Telemetry) -> float | None:
    """Return joules an image: power between the first and the last tick of the counter, over images a second."""
    ticks: list[tuple[float, float]] = []
    handle.send("sustain", settings.energy_s)
    started, before = time.perf_counter(), telemetry.joules()
    while time.perf_counter() - started < settings.energy_s * 0.95:  # the worker is certain to be busy until then
        now = telemetry.joules()
        if now is not None and now != before:
            ticks.append((time.perf_counter(), now))
            before = now
        time.sleep(POLL_S)
    run: SustainedLoad = handle.receive("sustain", settings.worker_timeout_s)
    watts = power_between_ticks(ticks)
    return None if watts is None else watts * run.seconds / (run.iterations * batch_size)


def power_between_ticks(ticks: list[tuple[float, float]]) -> float | None:
    """Return watts from (seconds, joules) at the moments an energy counter moved; None with too few of them.

    The count starts at the second of them, when the load has certainly begun.
    """
    if len(ticks) < 4:
        return None
    (begin_s, begin_j), (end_s, end_j) = ticks[1], ticks[-1]
    return (end_j - begin_j) / (end_s - begin_s)


def _peak_resident_mb(pid: int) -> float | None:
    """Return the peak resident set of a process, MB; Linux tells it, others do not."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None
