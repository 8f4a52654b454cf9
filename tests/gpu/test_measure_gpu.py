"""Measuring on a GPU: boundaries, energy, memory, and workers that end badly and leave nothing on the device."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace

import psutil
import pytest

from harness.config import ProtocolConfig
from harness.engines.build import artifact_key
from harness.measure.coordinator import workers
from harness.measure.progress import Silent
from harness.measure.protocol import measure
from harness.sweep.build import build_quartet
from harness.sweep.plan import plan_quartet
from harness.system.errors import CellError
from harness.system.machine import nvml_handle
from harness.techniques.levels import BatchProfile

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU with CUDA"),
]
SETTINGS = ProtocolConfig(slice_s=0.02, warmup_min_s=0.2, warmup_max_s=3.0, min_blocks=6, max_blocks=8, energy_s=1.0)


@pytest.fixture(scope="module")
def quartet(configured, cache):
    """Return the tasks of an identity control in eager PyTorch on the GPU."""
    plan = plan_quartet(configured("arch=identity", "hw=identity"), "eager", "cuda")
    return list(build_quartet(plan, cache, Silent()).values())


@pytest.fixture
def on_device():
    """Return a function: on_device() -> {process id: MB} of everybody who has memory on the GPU."""
    pynvml = pytest.importorskip("pynvml")
    pynvml.nvmlInit()
    handle = nvml_handle(pynvml)

    def read() -> dict[int, float]:
        return {p.pid: (p.usedGpuMemory or 0) / 1e6 for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}

    yield read
    pynvml.nvmlShutdown()


def test_every_cell_has_all_boundaries_its_energy_and_its_memory(quartet):
    found = measure(quartet, SETTINGS, "device", Silent())
    assert found.samples.boundaries == ("device", "wall", "end_to_end")
    for role in found.samples.roles:
        device = found.samples.milliseconds(role, "device").mean()
        assert 0 < device < found.samples.milliseconds(role, "wall").mean()
    used = {role: cell.consumption for role, cell in found.cells.items()}
    assert set(used) == {"baseline", "arch", "hw", "combined"}
    for cell in used.values():
        assert cell.device_memory_mb is None or 100 < cell.device_memory_mb < 20_000
        assert cell.host_memory_mb > 500
        assert cell.energy_j_per_image is None or 1e-5 < cell.energy_j_per_image < 10
    assert {row["cell"] for row in found.telemetry.rows if row["gpu_power_w"] > 10} == set(used)
    roof = found.ceilings
    assert 50 < roof.copy_gb_s < 20_000
    assert 1 < roof.matmul_fp32_tflops < roof.matmul_fp16_tflops < 5000


def test_a_waiting_worker_burns_no_cpu_and_launches_nothing(quartet):
    pynvml = pytest.importorskip("pynvml")
    pynvml.nvmlInit()
    handle = nvml_handle(pynvml)
    with workers(quartet) as handles:
        for worker in handles.values():
            worker.ask("load")
        for task in quartet:
            handles[task.name].ask("verify", task.expected.inputs)
        time.sleep(1.5)  # NVML's utilisation looks back for up to a second

        def spent() -> float:
            return sum(sum(psutil.Process(worker.pid).cpu_times()[:2]) for worker in handles.values())

        before, started = spent(), time.monotonic()
        time.sleep(1.5)
        share = (spent() - before) / (time.monotonic() - started)
        busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
        handles["hw"].ask("sustain", 1.5)
        really_busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
    assert share < 0.05
    assert busy == 0
    assert really_busy > 10  # so the reading above could have failed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_in_the_middle_of_a_slice_leaves_nothing_on_the_gpu(quartet, children, on_device, number):
    before = set(on_device())
    seen: set[int] = set()

    class Killer(Silent):
        def block(self, standing, remaining_s) -> None:
            if not seen:
                seen.update(on_device())
                victim = next(one for one in children() if one.pid in seen or not seen)
                threading.Timer(0.3, lambda: victim.send_signal(number)).start()

    with pytest.raises(CellError, match=rf"worker died of {number.name}.* during 'slice'"):
        measure(quartet, replace(SETTINGS, slice_s=0.5, max_blocks=100), "device", Killer())
    assert len(seen - before) == 4
    assert children() == []
    deadline = time.monotonic() + 5
    while set(on_device()) - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert set(on_device()) <= before


def test_a_cell_that_needs_more_memory_than_there_is_fails_with_that_reason(quartet, children, on_device):
    before = set(on_device())
    spec = quartet[0]
    huge = replace(spec.artifacts[0].plan, batch=BatchProfile(1, 1, 8_000_000))  # 390 GB of input alone
    spec = replace(spec, artifacts=(replace(spec.artifacts[0], plan=huge, key=artifact_key(huge)),))
    with workers([spec]) as handles, pytest.raises(CellError, match=r"^baseline: \w*OutOfMemoryError: [^\n]+$"):
        handles["baseline"].ask("load")
    assert children() == []
    assert set(on_device()) <= before
