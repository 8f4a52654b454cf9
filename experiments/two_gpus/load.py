"""A full load on GPU 1 that comes and goes every ten seconds: products of 8192 in bf16, DenseNet121 kernel by kernel.

python experiments/two_gpus/load.py STOP_FILE > load.csv
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

PHASE_S = 10.0
SIDE, BATCH = 8192, 32


def main(stop: Path) -> None:
    """Write each change, and power and clock in the middle of a phase, until the file is there."""
    import torch
    from torchvision.models import densenet121

    device = "cuda" if torch.cuda.is_available() else "cpu"
    side, half = (SIDE, torch.bfloat16) if device == "cuda" else (256, torch.float32)
    square = torch.randn(side, side, device=device, dtype=half)
    net = densenet121().to(device).eval()
    images = torch.randn(BATCH if device == "cuda" else 1, 3, 224, 224, device=device)
    on = threading.Event()

    def launch() -> None:
        with torch.inference_mode():
            while not stop.exists():
                if on.wait(1.0):
                    net(images)
                    if device == "cuda":
                        torch.cuda.synchronize()

    threading.Thread(target=launch, daemon=True).start()
    print("unix_s,load,power_w,sm_clock_mhz", flush=True)
    loaded = False
    while not stop.exists():
        loaded = not loaded
        (on.set if loaded else on.clear)()
        print(f"{time.time():.2f},{loaded:d},,", flush=True)
        end, told = time.monotonic() + PHASE_S, False
        while (left := end - time.monotonic()) > 0 and not stop.exists():
            if not told and left < PHASE_S / 2:
                power_w, clock_mhz = readings(device)
                print(f"{time.time():.2f},{loaded:d},{power_w},{clock_mhz}", flush=True)
                told = True
            if not loaded:
                time.sleep(0.1)
                continue
            for _ in range(10):
                square @ square
            if device == "cuda":
                torch.cuda.synchronize()


def readings(device: str) -> tuple[object, object]:
    """Return power and clock of the only GPU that is seen."""
    if device == "cpu":
        return "", ""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(1)
    return pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3, pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "1"  # before torch is imported
    main(Path(sys.argv[1]))
