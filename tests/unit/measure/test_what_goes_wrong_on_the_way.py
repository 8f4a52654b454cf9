"""A chip that slows down, a profile that fails, a host that sets the pace: what is measured then, and what is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.config import ProtocolConfig
from harness.measure import protocol
from harness.measure.coordinator import Worker
from harness.measure.progress import Silent
from harness.measure.protocol import measure
from harness.measure.telemetry import Telemetry
from harness.system.errors import CellError

QUICK = ProtocolConfig(
    slice_s=0.005, warmup_tolerance=9.0, min_blocks=3, max_blocks=3, half_width=1e-9, ceilings=False, why=False
)


@pytest.fixture(scope="module")
def alone(prepared):
    return list(prepared("reference=engine")[1].values())


@pytest.fixture
def hot(monkeypatch) -> Callable[[Callable[[int], bool]], list[int]]:
    """Return a function: hot(when) -> the list of all readings; the chip slows down in the n-th (from 0) if when(n)."""
    readings: list[int] = []

    def heat(when: Callable[[int], bool]) -> list[int]:
        class Hot(Telemetry):
            def read(self, *arguments, **options) -> bool:
                super().read(*arguments, **options)
                readings.append(len(readings))
                return when(readings[-1])

        monkeypatch.setattr(protocol, "Telemetry", Hot)
        return readings

    return heat


def test_a_block_of_a_chip_that_slowed_down_is_measured_again_and_counted(alone, hot):
    readings = hot(lambda number: number == 1)
    found = measure(alone, QUICK, "wall", Silent())
    assert (found.samples.blocks, found.samples.discarded, found.samples.slowed) == (3, 1, 0)
    assert len(readings) == 4
    assert found.samples.frame()["block"].unique().tolist() == [0, 1, 2]
    assert found.note == ""


def test_one_cell_that_slowed_down_is_enough_for_its_block(prepared, hot):
    pair = list(prepared("arch=identity", "hw=none", "reference=engine")[1].values())
    hot(lambda number: number == 2)  # the first of two cells in the second block
    found = measure(pair, QUICK, "wall", Silent())
    assert (found.samples.blocks, found.samples.discarded) == (3, 1)
    assert len(found.samples.frame().drop_duplicates(["cell", "block"])) == 2 * 3


def test_a_chip_that_stays_hot_is_measured_as_it_is_once_the_budget_is_over_and_that_is_told(alone, hot):
    hot(lambda number: True)
    found = measure(alone, replace(QUICK, budget_s=0.01), "wall", Silent())
    assert (found.samples.blocks, found.samples.slowed) == (3, 3)
    assert found.note == "3 of 3 blocks measured on a chip that was slowing down"


def test_a_block_in_which_an_iteration_stalled_is_measured_again_and_that_is_told(prepared, monkeypatch):
    """As on a laptop that is suspended, or a virtual machine whose processor is taken away for half a minute."""
    pair = list(prepared("arch=identity", "hw=none", "reference=engine")[1].values())
    visits, ask = [], Worker.ask

    def stalling(self, name, argument=None, timeout_s=300.0):
        found = ask(self, name, argument, timeout_s)
        if name == "slice" and "wall" in found.milliseconds:
            visits.append(found)
            if len(visits) == 4:
                found.milliseconds["wall"][-1] = 30_002.0
        return found

    monkeypatch.setattr(Worker, "ask", stalling)
    found = measure(pair, QUICK, "wall", Silent())
    assert (found.samples.blocks, found.samples.discarded, found.samples.stalled) == (3, 1, 0)
    assert found.note.startswith("1 block measured again: an iteration stalled (30,002 ms where ")
    assert found.samples.frame()["milliseconds"].max() < 30_000
    assert len(found.samples.frame().drop_duplicates(["cell", "block"])) == 2 * 3


def refusing(command: str, text: str, monkeypatch) -> None:
    """Let every worker answer one command with this error."""
    ask = Worker.ask

    def patched(self, name, argument=None, timeout_s=300.0):
        if name == command:
            raise CellError(f"{self.name}: {text}")
        return ask(self, name, argument, timeout_s)

    monkeypatch.setattr(Worker, "ask", patched)


def test_a_profile_that_fails_costs_no_quartet_and_is_told(alone, monkeypatch):
    refusing("why", "RuntimeError: no profiler", monkeypatch)
    found = measure(alone, replace(QUICK, why=True), "wall", Silent())
    assert not any(cell.profile for cell in found.cells.values())
    assert found.samples.blocks == 3
    assert found.note == "no profile of baseline: RuntimeError: no profiler"


@pytest.mark.parametrize(("no_device", "restarts"), [("launching takes the host 95% of the time", 3), ("", 1)])
def test_a_cell_whose_host_sets_the_pace_is_measured_in_as_many_processes_as_its_mode_needs(
    alone, monkeypatch, no_device, restarts
):
    real = protocol.bring_up

    def launched_slower(*arguments):
        loaded, fidelity = real(*arguments)
        return {role: replace(cell, no_device=no_device) for role, cell in loaded.items()}, fidelity

    monkeypatch.setattr(protocol, "bring_up", launched_slower)
    settings = replace(QUICK, restarts=1, host_bound_restarts=3, min_blocks=2, max_blocks=2)
    found = measure(alone, settings, "wall", Silent())
    assert found.restarts == restarts
    assert found.samples.groups == [number for number in range(restarts) for _ in range(2)]
