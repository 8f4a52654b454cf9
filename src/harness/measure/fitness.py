"""Whether this machine is fit to measure on: who else uses it, and what holds it back. Asked once, before a sweep."""

from __future__ import annotations

import os
from typing import Any

from harness.system.counts import counted
from harness.system.machine import nvml_handle, usable_cores

BUSY = 0.5  # load per core, of the last minute
BUSY_GPU_PERCENT = 5
CAPPED = 0.95  # of the usual power limit


def disturbances(device: str) -> list[str]:
    """Return what will make intervals wide, a few words each; [] for a quiet machine."""
    import psutil

    found = []
    load, cores = psutil.getloadavg()[0], usable_cores()
    if load > BUSY * cores:
        found.append(f"load {load:.1f} on {counted(cores, 'core')}")
    return found + (_on_the_gpu() if device == "cuda" else [])


def warning(device: str) -> str:
    """Return one line on what disturbs measurements here, "" on a quiet machine."""
    found = disturbances(device)
    return f"This machine is busy ({'; '.join(found)}): intervals may be too wide to decide." if found else ""


def _on_the_gpu() -> list[str]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver, no permission: nothing can be said
        return []
    try:
        return _of(pynvml, nvml_handle(pynvml))
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _of(pynvml: Any, handle: Any) -> list[str]:
    found = []
    others = [process for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle) if process.pid != os.getpid()]
    if others:
        found.append(f"{counted(len(others), 'other process', 'other processes')} on the GPU")
    busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
    if busy > BUSY_GPU_PERCENT:
        found.append(f"the GPU is {busy}% in use")
    limit = pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)
    usual = pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle)
    if limit < CAPPED * usual:
        found.append(f"its power limit is {limit / 1000:.0f} of {usual / 1000:.0f} W")
    return found
