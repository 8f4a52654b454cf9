"""The protocol: blocks visit every cell once in random order, as many as it takes, in as many restarts as asked."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from harness.config import ProtocolConfig
from harness.measure.ceilings import SIZES
from harness.measure.coordinator import workers
from harness.measure.design import Orders
from harness.measure.inspection import _to_spoil
from harness.measure.progress import Silent
from harness.measure.protocol import measure
from harness.measure.telemetry import Telemetry
from harness.stats.roles import ROLES
from harness.system.errors import CellError

QUICK = ProtocolConfig(slice_s=0.01, warmup_max_s=0.2, min_blocks=5, max_blocks=400, budget_s=60, ceilings=False)


class Log(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str]] = []
        self.standings = []

    def stage(self, name: str, cell: str = "") -> None:
        self.stages.append((name, cell))

    def block(self, standing, remaining_s) -> None:
        self.standings.append(standing)


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def measured(grouped_fusion, log):
    """Return a real measurement of a quartet: two restarts, a budget that is used up at once."""
    settings = replace(QUICK, min_blocks=6, restarts=2, budget_s=0.01, half_width=1e-9, coursework=True)
    return measure(list(grouped_fusion[1].values()), settings, "wall", log)


@pytest.fixture(scope="module")
def alone(prepared):
    return list(prepared("reference=engine")[1].values())


def test_a_block_visits_every_cell_once(measured):
    visits = measured.samples.frame().groupby("block")[["cell", "order"]].apply(lambda rows: rows.drop_duplicates())
    for _, block in visits.groupby(level=0):
        assert sorted(block["cell"]) == sorted(ROLES)
        assert sorted(block["order"]) == [0, 1, 2, 3]


def test_the_order_within_a_block_is_random_and_follows_the_seed(measured):
    orders = Orders(np.random.default_rng(QUICK.seed))
    expected: list[tuple[str, ...]] = []
    for block in range(6):
        last = ROLES[-1] if block % 3 == 0 else expected[-1][-1]  # a restart warms `combined` up last
        expected.append(tuple(orders.draw(ROLES, last)))
    assert orders_of(measured) == expected
    assert len(set(expected)) >= 4


def test_the_samples_tell_who_was_visited_just_before(measured):
    frame = measured.samples.frame().drop_duplicates(["block", "order"]).sort_values(["block", "order"])
    for _, block in frame.groupby("block"):
        assert block["previous"].tolist() == ["", *block["cell"].tolist()[:-1]]


def test_no_cell_runs_twice_in_a_row_over_the_edge_of_two_blocks(measured):
    orders = orders_of(measured)
    for number, (before, after) in enumerate(itertools.pairwise(orders), start=1):
        if number % 6:  # between restarts there are fresh processes
            assert before[-1] != after[0]


def orders_of(measured) -> list[tuple[str, ...]]:
    frame = measured.samples.frame().drop_duplicates(["block", "order"]).sort_values(["block", "order"])
    return [tuple(rows["cell"]) for _, rows in frame.groupby("block")]


def test_blocks_and_restarts_are_numbered_without_a_gap(measured):
    frame = measured.samples.frame()
    assert frame["block"].is_monotonic_increasing
    assert sorted(frame["block"].unique()) == list(range(6))
    assert dict(frame.groupby("block")["restart"].unique().map(list)) == {n: [n // 3] for n in range(6)}
    assert measured.samples.groups == [0] * 3 + [1] * 3
    assert measured.restarts == 2


def test_the_least_number_of_blocks_is_measured_over_all_restarts_even_without_a_budget(measured):
    assert measured.samples.blocks == 6
    assert not measured.converged


def test_on_a_cpu_there_is_only_the_wall(measured):
    assert measured.samples.boundaries == ("wall",)
    assert measured.primary == "wall"
    assert (measured.samples.frame()["milliseconds"] > 0).all()


def test_every_cell_was_verified_before_anything_was_timed(measured, log):
    assert set(measured.cells) == set(ROLES)
    found = [cell.fidelity for cell in measured.cells.values()]
    assert all(one.max_relative < 1e-3 and one.top1_agreement == 1 for one in found)
    names = [name for name, _ in log.stages]
    first_timed = min(names.index("coursework recipe"), names.index("warm-up"))
    assert [cell for name, cell in log.stages[:first_timed] if name == "verify"] == list(ROLES)


def test_who_watches_is_told_of_every_block(measured, log):
    assert [standing.blocks for standing in log.standings] == list(range(1, 7))
    assert log.standings[-1] == measured.standing


def test_the_usual_recipe_is_twenty_iterations_of_each_cell_on_the_same_executables(measured):
    series = {role: cell.coursework_ms for role, cell in measured.cells.items()}
    assert {role: len(ms) for role, ms in series.items()} == dict.fromkeys(ROLES, 20)
    assert all(ms > 0 for one in series.values() for ms in one)


def test_what_the_workers_said_is_kept(measured):
    assert len({cell.loaded.pid for cell in measured.cells.values()}) == 4
    assert measured.cells["hw"].loaded.proof["provider"] == "CPUExecutionProvider"
    assert measured.cells["baseline"].loaded.proof["parameter_dtype"] == "float32"
    assert all(cell.warmup.iterations >= 3 for cell in measured.cells.values())


def test_every_cell_says_what_its_process_held_and_on_a_cpu_no_energy(measured, log):
    assert set(measured.cells) == set(ROLES)
    for found in (cell.consumption for cell in measured.cells.values()):
        assert found.host_memory_mb > 50
        assert (found.energy_j_per_image, found.device_memory_mb) == (None, None)
    names = [name for name, _ in log.stages]
    assert names.count("energy and memory") == 1  # of the first restart, after its blocks
    assert names.index("warm-up") < names.index("energy and memory") < len(names) - 1 - names[::-1].index("load")


def test_the_ceilings_of_the_machine_are_measured_last_and_once(alone, monkeypatch):
    monkeypatch.setitem(SIZES, "cpu", (1 << 20, 64))
    log = Log()
    found = measure(alone, replace(QUICK, half_width=1e3, restarts=2, ceilings=True), "wall", log)
    assert found.ceilings.copy_gb_s > 0
    assert found.ceilings.matmul_fp32_tflops > 0
    names = [name for name, _ in log.stages]
    assert names.count("ceilings of the machine") == 1
    assert names[names.index("ceilings of the machine") - 1] == "profiles"


def test_profiles_are_taken_once_after_the_blocks_and_can_be_left_out(alone):
    log = Log()
    found = measure(alone, replace(QUICK, half_width=1e3, restarts=2), "wall", log)
    names = [name for name, _ in log.stages]
    assert names.count("profiles") == 1 and names[names.index("profiles") - 1] == "energy and memory"
    (profile,) = (cell.profile for cell in found.cells.values())
    assert profile.attributed > 0.9
    without = measure(alone, replace(QUICK, half_width=1e3, why=False), "wall", Silent())
    assert without.cells["baseline"].profile is None and "profile" not in without.note


def test_ceilings_that_can_not_be_measured_are_absent_and_cost_no_quartet(alone, monkeypatch, children):
    monkeypatch.setitem(SIZES, "cpu", (1 << 60, 64))  # an exbibyte: torch refuses
    found = measure(alone, replace(QUICK, half_width=1e3, ceilings=True), "wall", Silent())
    assert found.ceilings is None
    assert re.search(r"no ceilings of the machine: \w+: ", found.note)
    assert (found.samples.blocks, found.converged) == (5, True)
    assert children() == []


def test_ceilings_are_not_measured_where_nobody_asked(measured, log):
    assert measured.ceilings is None
    assert "ceilings of the machine" not in [name for name, _ in log.stages]


def test_no_process_is_left(measured, children):
    assert children() == []


def test_a_measurement_that_converged_stops_at_the_least_number_of_blocks(alone):
    found = measure(alone, replace(QUICK, half_width=1e3), "wall", Silent())
    assert (found.samples.blocks, found.converged) == (5, True)


def test_a_measurement_never_has_more_than_the_largest_number_of_blocks(alone):
    found = measure(alone, replace(QUICK, half_width=1e-12, max_blocks=7), "wall", Silent())
    assert (found.samples.blocks, found.converged) == (7, False)


def test_a_budget_ends_a_measurement_that_does_not_converge(alone):
    found = measure(alone, replace(QUICK, half_width=1e-12, budget_s=3.0, max_blocks=100_000), "wall", Silent())
    assert not found.converged
    assert found.samples.blocks > 5
    assert 3.0 <= found.seconds < 10


def test_a_cell_that_computes_something_else_is_not_measured(alone):
    wrong = {name: 2 * values for name, values in alone[0].expected.heads.items()}
    log = Log()
    with pytest.raises(CellError, match=r"^baseline: wrong output: 'logits' is off by"):
        measure([replace(alone[0], expected=replace(alone[0].expected, heads=wrong))], QUICK, "wall", log)
    assert log.standings == []
    assert "warm-up" not in [name for name, _ in log.stages]


class Blind(Telemetry):
    """Telemetry of a GPU whose driver tells nothing."""

    def __init__(self, device: str) -> None:
        super().__init__("cuda")


def test_what_a_reader_must_know_of_the_measurement_is_in_its_note(alone, monkeypatch):
    pynvml = pytest.importorskip("pynvml")

    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    monkeypatch.setattr("harness.measure.protocol.Telemetry", Blind)
    settings = replace(QUICK, half_width=1e3, warmup_tolerance=1e-12)
    found = measure(alone, settings, "wall", Silent())
    assert not found.cells["baseline"].warmup.steady
    blind, unsteady = found.note.split("; ")
    assert blind.startswith("NVML can't be read (Insufficient Permissions)")
    assert unsteady == "baseline: no steady state within the warm-up's time"


def test_where_there_is_nothing_to_tell_the_note_is_empty(alone):
    settings = replace(QUICK, half_width=1e3, warmup_tolerance=9.0, warmup_max_s=30.0)
    assert measure(alone, settings, "wall", Silent()).note == ""


def test_second_processes_come_up_together_and_one_that_can_not_is_reported(grouped_fusion, tmp_path):
    """A cell that is still needed gets a second process to be profiled in; another one gives up its own."""
    baseline, arch, hw = list(grouped_fusion[1].values())[:3]
    broken = replace(hw, artifacts=tuple(replace(artifact, path=tmp_path) for artifact in hw.artifacts))
    with workers([baseline, arch]) as held:
        cells, staying = [baseline, arch, broken], {baseline.name, broken.name}
        with _to_spoil(cells, held, staying, QUICK) as handles:
            assert handles[arch.name] is held[arch.name]
            assert handles[baseline.name].pid != held[baseline.name].pid
            assert handles[baseline.name].ask("why").attributed > 0  # it is loaded
            assert isinstance(handles[broken.name], CellError)
        assert held[baseline.name].ask("load")  # the first one still answers
