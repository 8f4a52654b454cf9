"""NVML for tests on machines without a GPU: real names and errors of nvidia-ml-py, answers in NVML's units.

https://docs.nvidia.com/deploy/nvml-api: power in milliwatts, energy in millijoules, memory in bytes, clocks in MHz,
reasons for a lower clock as a mask of bits.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

# from the documentation of nvmlClocksEventReasons, not from the package under test
IDLE, APPLICATIONS_CLOCKS, POWER_CAP, HW_SLOWDOWN = 0x1, 0x2, 0x4, 0x8
SW_THERMAL, HW_THERMAL, HW_POWER_BRAKE = 0x20, 0x40, 0x80

UUIDS = ("GPU-aaaa", "GPU-bbbb", "GPU-cccc")


class SimulatedNvml:
    """Three GPUs; `answers` holds what each function returns, an exception instead is raised."""

    def __init__(self) -> None:
        self.opened = 0  # nvmlInit without its nvmlShutdown yet
        self.asked_of: set[str] = set()  # the GPUs whose handles were used
        self.answers: dict[str, Any] = {
            "nvmlDeviceGetPowerUsage": 287_500,
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=93, memory=40),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80_000_000_000, used=3_250_000_000, free=0),
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0,
            "nvmlDeviceGetTotalEnergyConsumption": 5_123_400,
            "nvmlDeviceGetComputeRunningProcesses": [],
        }
        self.celsius = 61
        self.held_down_ns = {
            pynvml.NVML_PERF_POLICY_POWER: 0,
            pynvml.NVML_PERF_POLICY_THERMAL: 0,
        }  # since it was loaded
        self.clocks_mhz = {pynvml.NVML_CLOCK_SM: 1755, pynvml.NVML_CLOCK_MEM: 2619}

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of the functions of `pynvml`."""

        def moved(by: int) -> None:
            self.opened += by

        patch.setattr(pynvml, "nvmlInit", lambda: moved(1))
        patch.setattr(pynvml, "nvmlShutdown", lambda: moved(-1))
        patch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(UUIDS))
        patch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda number: UUIDS[number])
        patch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda name: name)
        patch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: handle)
        patch.setattr(pynvml, "nvmlDeviceGetClockInfo", lambda handle, kind: self._noted(handle, self.clocks_mhz[kind]))
        patch.setattr(pynvml, "nvmlDeviceGetTemperature", self._temperature)
        patch.setattr(pynvml, "nvmlDeviceGetViolationStatus", self._violation)
        for name in self.answers:
            patch.setattr(pynvml, name, lambda handle, *_, name=name: self._noted(handle, self.answers[name]))

    def _temperature(self, handle: str, sensor: int) -> int:
        assert sensor == 0, "NVML_TEMPERATURE_GPU is the only sensor there is"
        return self._noted(handle, self.celsius)

    def _violation(self, handle: str, policy: int) -> Any:
        found = self.held_down_ns[policy]
        known = found if isinstance(found, Exception) else SimpleNamespace(referenceTime=0, violationTime=found)
        return self._noted(handle, known)

    def _noted(self, handle: str, answer: Any) -> Any:
        assert self.opened == 1, "NVML was asked while it was not open"
        assert handle in UUIDS
        self.asked_of.add(handle)
        if isinstance(answer, Exception):
            raise answer
        return answer
