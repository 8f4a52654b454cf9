"""What this machine is: the facts a number needs beside it (`environment.json`)."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "torchvision", "torch-pruning", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu",
    "onnxconverter-common", "tensorrt", "tensorrt-cu12-bindings", "tensorrt-cu13-bindings",
    "tensorrt-rtx", "triton", "cuda-bindings", "numpy", "scipy", "mlflow",
    "hydra-core",
)  # fmt: skip


_DRIVER, _ROCM = "libcuda.so.1", "/dev/kfd"  # without both, torch has no device that it calls cuda


def environment() -> dict[str, Any]:
    """Return machine, software and, where there is one, GPU facts; JSON values, units in the names."""
    import psutil

    from harness import __version__

    return {
        "harness": __version__,
        "git_sha": git_sha(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": {
            "name": cpu_name(),
            "cores_physical": psutil.cpu_count(logical=False),
            "cores_usable": usable_cores(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        },
        "gpu": gpu(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def gpu() -> dict[str, Any] | None:
    """Return the first visible NVIDIA GPU, or None; read through NVML, so that nothing is started on it."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver, no permission: there is no GPU for us
        return None
    try:
        handle = nvml_handle(pynvml)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        bus_bits = _answered(pynvml.nvmlDeviceGetMemoryBusWidth, handle)
        clock_mhz = _answered(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_MEM)
        return {
            "name": _text(pynvml.nvmlDeviceGetName(handle)),
            "uuid": _text(pynvml.nvmlDeviceGetUUID(handle)),
            "compute_capability": f"{major}.{minor}",
            "tensor_cores": (major, minor) >= (7, 0),
            "sms": _multiprocessors(),
            "memory_gib": round(pynvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30, 1),
            # double data rate: two transfers a clock; the nominal figure, not a measured one
            "bandwidth_nominal_gb_s": round(2 * bus_bits / 8 * clock_mhz / 1e3) if bus_bits and clock_mhz else None,
            "driver": _text(pynvml.nvmlSystemGetDriverVersion()),
        }
    except Exception:
        return None
    finally:
        pynvml.nvmlShutdown()


def has_cuda_gpu() -> bool | None:
    """Return whether CUDA finds a GPU for this process, without asking torch; None where only torch can tell."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None and shown.split(",")[0].strip() in ("", "-1"):
        return False
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # as on a Jetson, which has a GPU all the same, and on a chip that torch calls cuda too (ROCm)
        return None if _loads(_DRIVER) or Path(_ROCM).exists() else False
    try:
        return bool(pynvml.nvmlDeviceGetCount())
    except Exception:
        return None
    finally:
        pynvml.nvmlShutdown()


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def usable_cores() -> int:
    """Return how many logical cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def nvml_handle(pynvml: Any) -> Any:
    """Return NVML's handle of the GPU that CUDA calls device 0: NVML itself knows nothing of CUDA_VISIBLE_DEVICES."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return pynvml.nvmlDeviceGetHandleByUUID(first)
    return pynvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)


def git_sha() -> str:
    """Return the commit this code is at, with "-dirty" where it was changed; "" outside a repository."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():  # an installed package may lie inside somebody else's repository
        return ""
    try:
        out = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return out.stdout.strip()


def _multiprocessors() -> int | None:
    """Return the number of SMs; NVML does not tell, torch does once it is loaded anyway."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(0).multi_processor_count)


def _answered(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception:  # not every driver answers everything
        return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def cpu_name() -> str:
    """Return the processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
