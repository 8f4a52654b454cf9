"""Whether this machine is fit to measure on: who else uses it, and what holds it back. Asked once, before a sweep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.measure.lock import SIMULATED, simulated_device
from harness.system.counts import counted
from harness.system.machine import nvml_handle, usable_cores

BUSY = 0.5  # load per core, of the last minute
BUSY_GPU_PERCENT = 5
CAPPED = 0.95  # of the usual power limit
HELD = 0.5  # of a GPU's memory: it can't be measured on where less is free
SIMULATED_DEAD = "HARNESS_SIMULATED_DEAD"  # a folder: a simulated GPU is dead once a file of its name is in it
_PROBE_S = 120.0
_PROBE = """
import torch

free, total = torch.cuda.mem_get_info()
torch.zeros(1 << 26, device="cuda").sum().item()
print(free, total)
"""


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


def device_trouble(device: str, unused: bool = False) -> str:
    """Return why this process's device can't be measured on, "" where it can; takes seconds on a GPU.

    `unused`: nothing of ours is on it yet, so that memory which is taken is somebody else's.
    """
    if os.environ.get(SIMULATED):
        dead = os.environ.get(SIMULATED_DEAD)
        return "it is dead (simulated)" if dead and (Path(dead) / simulated_device()).exists() else ""
    if device != "cuda":
        return ""
    try:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_S)
    except subprocess.TimeoutExpired:
        return f"a first allocation did not end within {_PROBE_S:.0f} s"
    if probe.returncode:
        lines = probe.stderr.strip().splitlines()
        return lines[-1][:300] if lines else f"a first allocation ended with status {probe.returncode}"
    free, total = map(int, probe.stdout.split()[-2:])
    if unused and free < HELD * total:
        return f"others hold {(total - free) / 1e9:.0f} of its {total / 1e9:.0f} GB of memory"
    return ""


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
