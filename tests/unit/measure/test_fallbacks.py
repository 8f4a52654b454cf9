"""What happens where a machine gives less than was planned: another boundary, a process at a time."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from harness.config import ProtocolConfig
from harness.measure import inspection, protocol
from harness.measure.inspection import Inspections
from harness.measure.progress import Silent
from harness.measure.protocol import measure
from harness.measure.settings import resolve_protocol
from harness.measure.stopping import Standing
from harness.system.errors import CellError

QUICK = ProtocolConfig(slice_s=0.005, warmup_tolerance=9.0, min_blocks=2, max_blocks=2, ceilings=False)


@pytest.fixture(scope="module")
def quartet(prepared):
    return list(prepared("arch=identity", "hw=identity", "reference=engine")[1].values())


def test_a_quartet_that_falls_back_to_the_wall_stops_at_the_walls_half_width(quartet, monkeypatch):
    used = set()
    real = Standing.converged
    monkeypatch.setattr(Standing, "converged", lambda self, s: used.add(s.half_width) or real(self, s))
    found = measure(
        quartet[:1], resolve_protocol(QUICK, "cuda"), "device", Silent()
    )  # as planned for a GPU; no device boundary
    assert found.primary == "wall"
    assert used == {0.03}


def test_a_visit_before_the_fallback_to_turns_is_forgotten(quartet, monkeypatch):
    real = protocol.workers

    @contextmanager
    def workers(specs):
        with real(specs) as handles:
            seen = []
            for h in handles.values():
                ask = h.ask

                def patched(command, argument=None, timeout_s=300.0, ask=ask):
                    if command == "slice":
                        seen.append(1)
                        if len(seen) == 2:
                            raise CellError("x: CUDA-capable device(s) is/are busy or unavailable")
                    return ask(command, argument, timeout_s)

                h.ask = patched
            yield handles

    monkeypatch.setattr(protocol, "workers", workers)
    found = measure(quartet[:2], QUICK, "wall", Silent())
    first = found.samples.frame().query("block == 0").groupby("cell")["order"].unique()
    assert [len(x) for x in first] == [1, 1]


def test_a_reading_is_taken_while_the_cells_process_still_holds_the_chip(quartet, monkeypatch, children):
    alive = []
    monkeypatch.setattr(protocol, "admits_one_process", lambda d: True)
    real = protocol.Telemetry

    class T(real):
        def read(self, *a, **k):
            alive.append(len(children()))
            return super().read(*a, **k)

    monkeypatch.setattr(protocol, "Telemetry", T)
    measure(quartet[:1], QUICK, "wall", Silent())
    assert min(alive) == 1


def test_cells_that_can_not_be_profiled_for_one_reason_are_told_in_one_breath(quartet, monkeypatch):
    real = protocol.workers

    @contextmanager
    def workers(specs):
        with real(specs) as handles:
            for role, h in handles.items():

                def patched(command, argument=None, timeout_s=300.0, ask=h.ask, role=role):
                    if command == "why":
                        raise CellError(f"{role}: it tells nothing")
                    return ask(command, argument, timeout_s)

                h.ask = patched
            yield handles

    monkeypatch.setattr(protocol, "workers", workers)
    found = measure(quartet[:2], QUICK, "wall", Silent())
    assert not any(cell.profile for cell in found.cells.values())
    assert found.note.count("it tells nothing") == 1
    assert "no profile of baseline, arch: it tells nothing" in found.note


def test_a_second_process_that_finds_no_room_beside_the_others_is_started_again_alone(monkeypatch):
    started = []

    @contextmanager
    def to_spoil(cells, held, staying, settings):
        started.append([cell.name for cell in cells])
        room = SimpleNamespace(ask=lambda command, argument, timeout_s: f"a profile of {started[-1]}")
        full = CellError("out of memory")
        yield {cell.name: full if (len(cells) > 1 and cell.name != "a") or cell.name == "c" else room for cell in cells}

    monkeypatch.setattr(inspection, "_to_spoil", to_spoil)
    found = Inspections(QUICK, "cuda", 1, Silent(), telemetry=None, dtypes=())
    found._profiles([SimpleNamespace(name=name) for name in "abc"], {}, "abc")
    assert started == [["a", "b", "c"], ["b"], ["c"]]
    assert found.profiles == {"a": "a profile of ['a', 'b', 'c']", "b": "a profile of ['b']"}
    assert found.no_profile == {"c": "out of memory"}
