"""Which GPU is here and what its compute capability is, without starting CUDA in this process."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class LocalGpu:
    """The GPU that CUDA would use first."""

    name: str
    compute_capability: tuple[int, int]


def local_gpu() -> LocalGpu | None:
    """Return the first visible GPU, or None if there is none.

    NVML rather than CUDA: a process that has initialised CUDA can no longer fork workers. It honours
    CUDA_VISIBLE_DEVICES (an index or a UUID; indices count in PCI order, CUDA's own with CUDA_DEVICE_ORDER=PCI_BUS_ID).
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        if visible.isdigit():
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(visible))
        elif visible.startswith(("GPU-", "MIG-")):
            handle = pynvml.nvmlDeviceGetHandleByUUID(visible)
        else:
            return None  # empty or -1: hidden on purpose
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return LocalGpu(name=str(pynvml.nvmlDeviceGetName(handle)), compute_capability=(major, minor))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def sm_text(compute_capability: tuple[int, int]) -> str:
    """Return `(8, 9)` as "8.9"."""
    return f"{compute_capability[0]}.{compute_capability[1]}"
