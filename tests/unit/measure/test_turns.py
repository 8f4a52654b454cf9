"""A GPU that admits one process: every command has a process of its own, and every block is a restart."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from harness.config import ProtocolConfig
from harness.measure import coordinator, protocol
from harness.measure.coordinator import ONE_AT_A_TIME, Worker, admits_one_process
from harness.measure.progress import Silent
from harness.measure.protocol import measure
from harness.stats.roles import ROLES
from harness.system.errors import CellError

BUSY = "arch: AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"
SETTINGS = ProtocolConfig(slice_s=0.005, warmup_tolerance=9.0, min_blocks=2, max_blocks=2, half_width=1e-9)


@pytest.fixture(scope="module")
def quartet(prepared):
    """Return the cells of an identity control on ONNX Runtime: workers that start within half a second."""
    return list(prepared("arch=identity", "hw=identity", "reference=engine")[1].values())


@pytest.fixture
def started(monkeypatch, children):
    """Return a list that grows by (role, processes alive just before, its commands) with each process in turns."""
    seen: list[tuple[str, int, list[str]]] = []

    class Watched(Worker):
        def __init__(self, cell, kind) -> None:
            self.commands: list[str] = []
            seen.append((cell.name, len(children()), self.commands))
            super().__init__(cell, kind)

        def send(self, command, argument=None) -> None:
            self.commands.append(command)
            super().send(command, argument)

    monkeypatch.setattr(coordinator, "Worker", Watched)
    return seen


def refusing(text: str, calls: list[str]):
    """Return what stands for `workers`, of which the first load ends with this error."""

    @contextmanager
    def workers(cells):
        calls.append(text)
        raise CellError(text)
        yield {}

    return workers


def test_one_process_at_a_time_and_a_fresh_one_for_each_visit(quartet, started, children, monkeypatch):
    monkeypatch.setattr(protocol, "admits_one_process", lambda device: True)
    found = measure(quartet, SETTINGS, "wall", Silent())
    assert {alive for _, alive, _ in started} == {0}
    assert children() == []
    visits = [role for role, _, commands in started if commands == ["load", "warm_up", "slice"]]
    assert visits == found.samples.frame().drop_duplicates(["block", "order"])["cell"].tolist()
    assert sorted(visits) == sorted(2 * ROLES)
    before = [(role, commands) for role, _, commands in started][: -len(visits)]
    assert before == [(role, ["load", *then]) for then in ([], ["verify"], ["warm_up"]) for role in ROLES]
    assert {role for role, cell in found.cells.items() if cell.fidelity and cell.warmup} == set(ROLES)
    assert not any(cell.consumption for cell in found.cells.values())  # no process lives long enough to be asked
    check_restarts(found)


def check_restarts(found) -> None:
    """Check that each block is a restart and that the reader is told."""
    assert found.restarts == found.samples.blocks == 2
    assert found.samples.groups == [0, 1]
    assert found.samples.frame().groupby("block")["restart"].unique().map(list).to_dict() == {0: [0], 1: [1]}
    assert found.note == f"{ONE_AT_A_TIME}; no ceilings of the machine: no process stays to measure them in"
    assert "one process at a time" in ONE_AT_A_TIME


def test_a_second_process_that_finds_the_device_busy_makes_the_cells_take_turns(quartet, started, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(protocol, "workers", refusing(BUSY, calls))
    found = measure(quartet[:1], SETTINGS, "wall", Silent())
    assert calls == [BUSY]
    assert {alive for _, alive, _ in started} == {0}
    check_restarts(found)


@pytest.mark.parametrize("text", ["arch: AcceleratorError: CUDA error: out of memory", "hw: worker died of SIGSEGV"])
def test_any_other_error_is_raised_as_it_is(quartet, started, monkeypatch, text):
    calls: list[str] = []
    monkeypatch.setattr(protocol, "workers", refusing(text, calls))
    with pytest.raises(CellError) as failure:
        measure(quartet[:1], SETTINGS, "wall", Silent())
    assert (str(failure.value), calls, started) == (text, [text], [])


def test_a_device_that_is_busy_even_for_one_process_is_an_error(quartet, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(protocol, "workers", refusing(BUSY, calls))
    monkeypatch.setattr(protocol, "turns", refusing(BUSY, calls))
    with pytest.raises(CellError, match="busy or unavailable"):
        measure(quartet[:1], SETTINGS, "wall", Silent())
    assert calls == [BUSY, BUSY]


def test_a_command_that_fails_in_its_turn_leaves_no_process(quartet, children):
    with coordinator.turns([quartet[0]]) as handles:
        with pytest.raises(CellError, match=r"^baseline: "):
            handles["baseline"].ask("slice", "not a turn")
        assert children() == []


def test_whether_a_gpu_admits_one_process_is_what_nvml_says(monkeypatch):
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for mode, admits in ((pynvml.NVML_COMPUTEMODE_DEFAULT, False), (pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS, True)):
        monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeMode", lambda handle, mode=mode: mode)
        assert admits_one_process("cuda") is admits
        assert not admits_one_process("cpu")

    def unknown(handle):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeMode", unknown)
    assert not admits_one_process("cuda")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: unknown(0))
    assert not admits_one_process("cuda")
