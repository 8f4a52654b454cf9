"""What the machine was doing (clocks, temperature, power, throttling, memory, load), and what each cell consumed.

The coordinator reads between slices, never in one: after each visit, while every worker waits, so that a reading can't
disturb what is timed. GPU figures come from NVML (https://docs.nvidia.com/deploy/nvml-api), the host's from psutil. A
cell's consumption is the energy of an image under sustained load, and the memory that its process holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from harness.config import ProtocolConfig
from harness.measure.cell import SustainedLoad
from harness.measure.coordinator import Worker
from harness.system.machine import nvml_handle

# reasons that slow a chip down below its requested clock; idling, an application's clock setting or the power cap
# (which every cell of a quartet meets alike, and which is part of the chip) are not among them
SLOWDOWNS = (
    "nvmlClocksEventReasonSwThermalSlowdown",
    "nvmlClocksEventReasonHwThermalSlowdown",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown",
    "nvmlClocksEventReasonHwSlowdown",
)

# what holds a clock down, by NVML's name: it integrates the time of each (nvmlDeviceGetViolationStatus)
CAPS = {"power": "NVML_PERF_POLICY_POWER", "thermal": "NVML_PERF_POLICY_THERMAL"}
_OF_A_CELL = {f"gpu_{cap}_capped" for cap in CAPS}  # in a row: the share of the time since the reading before
_AROUND = 2.0  # times its visit: a longer time since the reading before is not that cell's

POSITION = {"seconds", "unix_s", "visit_s", "cell", "restart", "block"}  # where and when a reading was taken


class Telemetry:
    """Readings of one quartet's measurement; enter it to open NVML, leave it to close."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._nvml: Any = None
        self.blind = ""  # what can't be known about the GPU, and why
        self._started = time.monotonic()
        self._before: tuple[float, dict[str, float]] | None = None  # time and counters of the reading before
        self.rows: list[dict[str, float | int | str]] = []
        self._quartets: list[frozenset[int]] = []  # by row

    def __enter__(self) -> Self:
        """Open NVML where the device is a GPU; without it there are host readings only."""
        import psutil

        psutil.cpu_percent()  # the first reading is since boot: start the window here
        if self._device == "cuda":
            import pynvml

            try:
                pynvml.nvmlInit()
                self._nvml = pynvml
                self._handle = nvml_handle(pynvml)
            except pynvml.NVMLError as error:
                self._close()
                self.blind = f"NVML can't be read ({error}): a throttled block would not be noticed"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close NVML."""
        self._close()

    def _close(self) -> None:
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml = None

    def read(
        self, role: str, restart: int, block: int, visit_s: float = 0.0, quartets: frozenset[int] = frozenset()
    ) -> bool:
        """Take one reading, just after a visit of `role` that took `visit_s`; return whether the chip slowed down.

        `quartets` are those of a design that the visit was for.
        """
        import psutil

        row: dict[str, float | int | str] = {
            "seconds": time.monotonic() - self._started,
            "unix_s": time.time(),
            "visit_s": visit_s,
            "cell": role,
            "restart": restart,
            "block": block,
            "host_cpu_percent": psutil.cpu_percent(),
            "host_memory_percent": psutil.virtual_memory().percent,
        }
        slowed = False
        if self._nvml is not None:
            gpu = self._read_gpu()
            slowed = gpu["gpu_slowdown"] == 1.0
            if math.isnan(gpu["gpu_slowdown"]):
                self.blind = "NVML does not tell whether the chip slows down: a throttled block would not be noticed"
            row |= gpu | self._capped_around(visit_s)
        self.rows.append(row)
        self._quartets.append(quartets)
        return slowed

    def _read_gpu(self) -> dict[str, float]:
        nvml, handle = self._nvml, self._handle
        readings: dict[str, Callable[[], float]] = {
            "gpu_sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "gpu_memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "gpu_temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "gpu_power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "gpu_utilisation_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "gpu_memory_mb": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6,
            "gpu_slowdown": lambda: float(bool(self._slowdown())),
        }
        out = {}
        for name, read in readings.items():
            try:
                out[name] = float(read())
            except nvml.NVMLError:  # not every chip or driver reports everything
                out[name] = float("nan")
        return out

    def _slowdown(self) -> int:
        mask = 0
        for name in SLOWDOWNS:
            mask |= int(getattr(self._nvml, name, 0))
        return int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)) & mask

    def _capped_around(self, visit_s: float) -> dict[str, float]:
        """Return `gpu_power_capped` and the like: the share of a visit and its turn in which the clock was held down.

        Empty after a pause, whose share is nobody's.
        """
        now, before = (time.monotonic(), self.capped_s()), self._before
        self._before = now
        if before is None or not 0 < now[0] - before[0] <= _AROUND * visit_s:
            return {}
        return {f"gpu_{name}_capped": share for name, share in capped_shares(before, now).items()}

    def capped_s(self) -> dict[str, float]:
        """Return for how long each of `CAPS` has held the clock down, seconds since the driver was loaded.

        What the driver does not tell is left out.
        """
        out: dict[str, float] = {}
        if self._nvml is not None:
            for name, policy in CAPS.items():
                try:
                    found = self._nvml.nvmlDeviceGetViolationStatus(self._handle, getattr(self._nvml, policy))
                except self._nvml.NVMLError:
                    continue
                out[name] = found.violationTime / 1e9  # nanoseconds
        return out

    def sm_clock_mhz(self) -> float | None:
        """Return the clock of the multiprocessors, or None where the driver does not tell."""
        if self._nvml is None:
            return None
        try:
            return float(self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM))
        except self._nvml.NVMLError:
            return None

    def joules(self) -> float | None:
        """Return the GPU's energy counter (since the driver was loaded), or None where it has none."""
        if self._nvml is None:
            return None
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError:  # Volta and later only
            return None

    def device_memory_mb(self, pid: int) -> float | None:
        """Return the GPU memory of one process, its CUDA context included; None where the driver does not tell."""
        if self._nvml is None:
            return None
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        # in a container with process ids of its own none of them may be ours
        used = [process.usedGpuMemory for process in processes if process.pid == pid]
        return used[0] / 1e6 if used and used[0] is not None else None

    def of(self, roles: Mapping[str, str], quartet: int) -> Telemetry:
        """Return the readings so far of one quartet's visits, its cells by their roles; `roles` are by their names."""
        found = copy(self)
        found._nvml = None
        found.rows = [
            row | {"cell": roles[str(row["cell"])]}
            for row, quartets in zip(self.rows, self._quartets, strict=True)
            if row["cell"] in roles and quartet in quartets
        ]
        return found

    def memory_mb(self) -> tuple[float, float] | None:
        """Return the GPU memory that is used, by whomever, and all there is; None where the driver does not tell."""
        if self._nvml is None:
            return None
        try:
            found = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        except self._nvml.NVMLError:
            return None
        return found.used / 1e6, found.total / 1e6

    def metrics(self) -> Mapping[str, float]:
        """Return the means over the measurement as `gpu/...` and `host/...`; the hottest, not the mean, temperature."""
        out: dict[str, float] = {}
        for name in {key for row in self.rows for key in row} - POSITION - _OF_A_CELL:
            values = self._values(name)
            if values.size:
                family, _, rest = name.partition("_")
                out[f"{family}/{rest}"] = float(values.max() if "temperature" in name else values.mean())
        return out

    def by_cell(self, role: str) -> Mapping[str, float]:
        """Return what a cell's visits did to the clock: `gpu/clock_mhz`, and `gpu/power_capped` and the like."""
        names = {"gpu_sm_clock_mhz": "gpu/clock_mhz", **{name: name.replace("_", "/", 1) for name in _OF_A_CELL}}
        found = {shown: self._values(name, role) for name, shown in names.items()}
        return {shown: float(values.mean()) for shown, values in found.items() if values.size}

    def _values(self, name: str, role: str | None = None) -> NDArray[np.float64]:
        """Return what was read under a name, of one cell or of all."""
        rows = (row for row in self.rows if name in row and role in (None, row["cell"]))
        values = np.array([row[name] for row in rows], dtype=float)
        known: NDArray[np.float64] = values[np.isfinite(values)]
        return known


def capped_shares(
    before: tuple[float, Mapping[str, float]], after: tuple[float, Mapping[str, float]]
) -> dict[str, float]:
    """Return the share, from 0 to 1, of the time between two readings in which each cap held the clock down.

    Each reading is its time and its counters, in seconds. NVML moves the counters at times of its own, so that a short
    time may have more of them than it lasted.
    """
    passed = after[0] - before[0]
    known = before[1].keys() & after[1].keys()
    return {name: min(1.0, max(0.0, (after[1][name] - before[1][name]) / passed)) for name in sorted(known)}


POLL_S = 0.005  # NVML's energy counter moves every 100 ms on a Hopper chip; a call takes 3 ms


@dataclass(frozen=True)
class Consumption:
    """Of one cell; None where the machine does not tell."""

    energy_j_per_image: float | None = None
    device_memory_mb: float | None = None  # CUDA context included; allocators keep their peak
    host_memory_mb: float | None = None  # peak resident set
    sustained: Sustained | None = None  # where there was such a load


@dataclass(frozen=True)
class Sustained:
    """A cell that runs without the pauses of the turns, in which a chip cools and regains its clock."""

    throughput_ips: float  # images/s, host included
    energy_j_per_image: float | None
    clock_mhz: float | None  # of the multiprocessors, mean
    capped: Mapping[str, float] = field(default_factory=dict)  # share of the time, by what held the clock down


def consumption(
    handles: Mapping[str, Worker], batch_size: int, settings: ProtocolConfig, telemetry: Telemetry
) -> dict[str, Consumption]:
    """Return what each cell consumes, by role: after the timed blocks, so that it disturbs none of them."""
    out = {}
    for role, handle in handles.items():
        sustained = None
        if settings.energy_s and telemetry.joules() is not None:
            sustained = _sustained(handle, batch_size, settings, telemetry)
        out[role] = Consumption(
            sustained.energy_j_per_image if sustained else None,
            telemetry.device_memory_mb(handle.pid),
            _peak_resident_mb(handle.pid),
            sustained,
        )
    return out


def _sustained(handle: Worker, batch_size: int, settings: ProtocolConfig, telemetry: Telemetry) -> Sustained:
    """Run a cell for `energy_s` and watch: images a second, joules an image, and what became of the clock.

    Power is that between the first and the last tick of the energy counter.
    """
    ticks: list[tuple[float, float]] = []
    clocks: list[float | None] = []
    handle.send("sustain", settings.energy_s)
    started, before = time.perf_counter(), telemetry.joules()
    capped_before = (started, telemetry.capped_s())
    while time.perf_counter() - started < settings.energy_s * 0.95:  # the worker is certain to be busy until then
        now = telemetry.joules()
        if now is not None and now != before:
            ticks.append((time.perf_counter(), now))
            before = now
        clocks.append(telemetry.sm_clock_mhz())
        time.sleep(POLL_S)
    capped = capped_shares(capped_before, (time.perf_counter(), telemetry.capped_s()))
    run: SustainedLoad = handle.receive("sustain", settings.worker_timeout_s)
    watts, images = power_between_ticks(ticks), run.iterations * batch_size
    known = [clock for clock in clocks if clock is not None]
    return Sustained(
        throughput_ips=images / run.seconds,
        energy_j_per_image=None if watts is None else watts * run.seconds / images,
        clock_mhz=float(np.mean(known)) if known else None,
        capped=capped,
    )


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
