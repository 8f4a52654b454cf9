"""What the machine was doing (clocks, temperature, power, throttling, memory, load), and what each cell consumed.

The coordinator reads between slices, never in one: after each visit, while every worker waits, so that a reading can't
disturb what is timed. GPU figures come from NVML (https://docs.nvidia.com/deploy/nvml-api), the host's from psutil. A
cell's consumption is the energy of an image under sustained load, and the memory that its process holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.config import ProtocolConfig
from harness.measure.cell import SustainedLoad
from harness.measure.coordinator import Worker
from harness.system.machine import nvml_handle

# reasons that slow a chip down against what it was asked for; idling, an application's clock setting or the power cap
# (which every cell of a quartet meets alike, and which is part of the chip) are not among them
SLOWDOWNS = (
    "nvmlClocksEventReasonSwThermalSlowdown",
    "nvmlClocksEventReasonHwThermalSlowdown",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown",
    "nvmlClocksEventReasonHwSlowdown",
)

POSITION = {"seconds", "unix_s", "visit_s", "cell", "restart", "block"}  # where and when a reading was taken


class Telemetry:
    """Readings of one quartet's measurement; enter it to open NVML, leave it to close."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._nvml: Any = None
        self.blind = ""  # what can't be known about the GPU, and why
        self._started = time.monotonic()
        self.rows: list[dict[str, float | int | str]] = []

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

    def read(self, role: str, restart: int, block: int, visit_s: float = 0.0) -> bool:
        """Take one reading, just after a visit of `role` that took `visit_s`; return whether the chip slowed down."""
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
            row |= gpu
        self.rows.append(row)
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

    def metrics(self) -> Mapping[str, float]:
        """Return the means over the measurement as `gpu/...` and `host/...`; the hottest, not the mean, temperature."""
        import numpy as np

        out: dict[str, float] = {}
        for name in {key for row in self.rows for key in row} - POSITION:
            values = np.array([row[name] for row in self.rows if name in row], dtype=float)
            values = values[np.isfinite(values)]
            if values.size:
                family, _, rest = name.partition("_")
                out[f"{family}/{rest}"] = float(values.max() if "temperature" in name else values.mean())
        return out


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
