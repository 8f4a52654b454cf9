"""Quartets side by side: shared cells are brought up and visited once, and what fails or ends early costs no other."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from harness.config import ProtocolConfig
from harness.measure import inspection, protocol
from harness.measure.cell import Loaded, Slice, Warmup
from harness.measure.design import Contrast, Design, cells_of, cells_that_fit, first_part, remaining_s, samples_of
from harness.measure.progress import Silent
from harness.measure.protocol import Measurement, measure_design
from harness.measure.stopping import Standing
from harness.measure.verify import Fidelity
from harness.stats.prior import KnownSpread
from harness.stats.roles import ROLES
from harness.system.errors import CellError

SETTINGS = ProtocolConfig(min_blocks=4, max_blocks=8, half_width=0.05, why=False, ceilings=False, energy_s=0.0)
GRID = [
    {"baseline": "baseline", "arch": arch, "hw": hw, "combined": f"{arch} x {hw}"}
    for arch, hw in itertools.product("abc", "xy")
]
TUNED = {"x": KnownSpread(0.03, 8), "a x x": KnownSpread(0.04, 8)}  # cells whose builds are known to differ
SPEED = {"baseline": 1.0, "a": 2.0, "b": 1.5, "c": 1.2, "x": 3.0, "y": 1.1}


@dataclass
class FakeCell:
    """A worker without a process: what it was asked, and what it answers."""

    name: str
    bench: Bench

    def send(self, command: str, argument=None) -> None:
        self.bench.asked.append((self.name, command))

    def receive(self, command: str, timeout_s: float):
        return self.answer(command)

    def ask(self, command: str, argument=None, timeout_s: float = 0.0):
        self.bench.asked.append((self.name, command))
        return self.answer(command, argument)

    def answer(self, command: str, argument=None):
        failing = self.bench.failing.get(self.name)
        if failing is not None and failing[0] == command and (self.bench.visits() >= failing[1]):
            raise CellError(f"{self.name}: broke")
        if command == "load":
            missing = "launched too slowly" if self.name in self.bench.without_device else ""
            return Loaded({}, (), None, self.bench.boundaries if not missing else ("wall",), 0, 0.0, missing)
        if command == "warm_up":
            return Warmup(3, 0.0, True)
        if command == "slice":
            self.bench.turns.append((self.name, argument))
            ms = 8.0 / math.prod(SPEED[part] for part in self.name.split(" x "))
            noise = 1 + 1e-4 * math.sin(7.0 * len(self.bench.turns))
            return Slice({boundary: [ms * noise] for boundary in argument.boundaries})
        return None


class Bench:
    """All that the fake cells share: commands in their order, and who fails at what after how many visits."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.turns: list[tuple[str, object]] = []
        self.failing: dict[str, tuple[str, int]] = {}
        self.without_device: set[str] = set()
        self.boundaries: tuple[str, ...] = ("wall",)
        self.started: list[list[str]] = []

    def visits(self) -> int:
        return len(self.turns)

    def visited(self) -> Counter:
        return Counter(name for name, _ in self.turns)


@pytest.fixture
def bench(monkeypatch):
    found = Bench()

    @contextmanager
    def workers(cells):
        found.started.append([cell.name for cell in cells])
        yield {cell.name: FakeCell(cell.name, found) for cell in cells}

    monkeypatch.setattr(protocol, "workers", workers)
    monkeypatch.setattr(inspection, "workers", workers)
    monkeypatch.setattr("harness.measure.bring_up.compare", lambda *_: Fidelity(0.0, 0.0, 1.0, 1.0))
    return found


def design(quartets=GRID, builds: int = 1) -> Design:
    plan = SimpleNamespace(arithmetic=None, precision=SimpleNamespace(dtype="float32"))
    artifact = SimpleNamespace(plan=plan)

    def cell(name: str):
        expected = SimpleNamespace(inputs=None)
        return SimpleNamespace(
            name=name, device="cpu", batch_size=1, labelled=None, artifacts=(artifact,), expected=expected,
            build_spread=TUNED.get(name),
        )  # fmt: skip

    cells = {name: cell(name) for name in cells_of(quartets)}
    return Design((cells,) * builds, tuple(quartets))


def ended(quartets=GRID, settings=SETTINGS, primary="wall", builds=1, family=1):
    found: dict[int, Measurement | CellError] = {}
    order: list[int] = []

    def end(number, result):
        assert number not in found
        found[number] = result
        order.append(number)

    measure_design(design(quartets, builds), settings, primary, Silent(), end, family)
    return found, order


def test_distinct_cells_are_brought_up_once_and_every_quartet_gets_its_factor(bench):
    found, _ = ended()
    assert bench.started == [cells_of(GRID)]
    assert len(bench.started[0]) == 12
    assert sorted(found) == list(range(6))
    for number, result in found.items():
        assert result.standing.value == pytest.approx(1.0, abs=0.01), GRID[number]
        assert result.side_by_side == (6, 12)
        assert set(result.cells) == {"baseline", "arch", "hw", "combined"}


class Watching(Silent):
    """Who notes which quartet each block is said to be of."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def block(self, standing: Standing, remaining_s: float) -> None:
        self.seen.add(standing.quartet)


@pytest.mark.parametrize("quartets", [GRID, GRID[:1]])
def test_progress_names_the_quartet_that_a_block_is_of(bench, quartets):
    progress = Watching()
    measure_design(design(quartets), SETTINGS, "wall", progress, lambda *_: None, 1)
    assert progress.seen == {quartet["combined"] for quartet in quartets}


def test_a_quartet_alone_has_no_name_beside_others():
    roles = {role: role for role in ("baseline", "arch", "hw", "combined")}  # which its cells are called by
    assert Contrast(0, roles, SETTINGS, SimpleNamespace(), builds=1, family=1).label == ""


def test_on_the_device_a_block_visits_each_cell_once_for_all_quartets(bench):
    bench.boundaries = ("device", "wall")
    found, _ = ended(primary="device")
    device = Counter(name for name, turn in bench.turns if turn.boundaries == ("device",))
    blocks = found[0].samples.blocks
    assert set(device.values()) == {blocks}
    assert all(result.primary == "device" and result.samples.blocks == blocks for result in found.values())
    secondary = Counter(name for name, turn in bench.turns if turn.boundaries == ("wall",))
    half = blocks // 2  # in every second block, in a pass of its own
    assert set(secondary.values()) == {half}
    assert found[0].samples.throughput("wall").shape == (half, 4)
    assert found[0].samples.replication("wall")[0].tolist() == [0] * half


def test_on_the_wall_the_four_cells_of_a_quartet_are_visited_in_a_row(bench):
    found, _ = ended()
    names = [name for name, _ in bench.turns]
    rows = [set(names[start : start + 4]) for start in range(0, len(names), 4)]
    assert all(any(row == set(quartet.values()) for quartet in GRID) for row in rows)
    assert bench.visited()["baseline"] == sum(result.samples.blocks for result in found.values())


def test_quartets_whose_cells_lack_the_device_boundary_are_measured_on_the_wall_and_no_other_is(bench):
    bench.boundaries = ("device", "wall")
    bench.without_device = {"a x x"}
    found, _ = ended(primary="device")
    assert {number: result.primary for number, result in found.items()} == {
        number: "wall" if quartet["combined"] == "a x x" else "device" for number, quartet in enumerate(GRID)
    }


@pytest.mark.parametrize("command", ["load", "verify", "warm_up", "slice"])
def test_a_cell_that_fails_costs_the_quartets_that_need_it_and_no_other(bench, command):
    bench.failing = {"a": (command, 0 if command != "slice" else 9)}
    found, _ = ended()
    for number, quartet in enumerate(GRID):
        if quartet["arch"] == "a":
            assert isinstance(found[number], CellError)
            assert str(found[number]) == "arch: broke"
        else:
            assert found[number].standing.value == pytest.approx(1.0, abs=0.01)


def test_where_the_baseline_fails_nothing_is_measured(bench):
    bench.failing = {"baseline": ("load", 0)}
    found, _ = ended()
    assert {str(result) for result in found.values()} == {"baseline: broke"}
    assert bench.turns == []


def test_a_quartet_is_handed_over_when_it_has_converged_and_its_cells_leave_the_rounds(bench, monkeypatch):
    bench.boundaries = ("device",)
    slow = GRID[0]["combined"]
    real = FakeCell.answer

    def noisy(self, command, argument=None):
        found = real(self, command, argument)
        if command == "slice" and self.name == slow:
            factor = 1.3 if len(bench.turns) % 2 else 1.0
            found = Slice({name: [ms[0] * factor] for name, ms in found.milliseconds.items()})
        return found

    monkeypatch.setattr(FakeCell, "answer", noisy)
    settings = replace(SETTINGS, max_blocks=12, half_width=0.02)
    found, order = ended(settings=settings, primary="device")
    assert order[-1] == 0
    assert found[0].samples.blocks == 12
    others = {found[number].samples.blocks for number in (1, 2, 3, 4, 5)}
    assert max(others) < 12
    visited = bench.visited()
    assert [visited[name] for name in GRID[0].values()] == [12] * 4
    assert visited["c x y"] in others


def test_what_is_known_of_builds_is_that_of_the_cells_of_a_ratio():
    made = design()
    samples = samples_of(made.quartets[0], made.builds[0])
    assert samples.build_spread(ROLES).sd == pytest.approx(0.05)
    assert samples.build_spread(("hw", "baseline")) == KnownSpread(0.03, 8)
    assert samples.build_spread(("arch", "baseline")) is None


def test_each_build_is_a_restart_and_all_of_them_count(bench):
    found, _ = ended(builds=3, settings=replace(SETTINGS, half_width=0.5, max_blocks=60))
    assert len(bench.started) == 3
    assert all(sorted(set(result.samples.builds)) == [0, 1, 2] for result in found.values())
    assert all(len(set(Counter(result.samples.builds).values())) == 1 for result in found.values())


def test_cells_that_memory_does_not_hold_are_measured_in_parts_which_share_the_baseline(bench, monkeypatch):
    monkeypatch.setattr(protocol, "cells_that_fit", lambda *_: 8)
    found, _ = ended()
    assert sorted(found) == list(range(6))
    assert all(isinstance(result, Measurement) for result in found.values())
    assert len(bench.started[0]) == 12  # processes are there, but load nothing until it is known how many fit
    loaded = Counter(name for name, command in bench.asked if command == "load")
    assert loaded["baseline"] == 2
    assert loaded.total() == 8 + 8  # three architectures by one acceleration, twice


@pytest.mark.parametrize(("most", "cells"), [(12, 12), (9, 9), (8, 8), (6, 6), (4, 4), (3, 4)])
def test_a_part_is_the_rectangle_that_repeats_the_fewest_visits(most, cells):
    part = first_part(GRID, most)
    assert 0 in part
    assert len(cells_of([GRID[number] for number in part])) == cells
    parts, rest = 0, list(GRID)
    while rest:
        now = first_part(rest, most)
        rest = [quartet for number, quartet in enumerate(rest) if number not in now]
        parts += 1
    assert parts <= math.ceil(6 / max(1, len(part))) + 1


def test_how_many_cells_fit_is_what_the_loaded_ones_hold_of_what_is_free(monkeypatch):
    workers = [SimpleNamespace(pid=number) for number in range(4)]
    monkeypatch.setattr("harness.measure.design._unshared_bytes", lambda pid: 1e9)
    monkeypatch.setattr("harness.measure.design.psutil.virtual_memory", lambda: SimpleNamespace(available=12.5e9))
    assert cells_that_fit(workers, None, None) == 4 + 8  # 0.85 x 12.5 / 1.25
    assert cells_that_fit(workers, (1000.0, 20_000.0), (9000.0, 20_000.0)) == 4 + 4  # 2 GB each, 11 GB free
    assert cells_that_fit(workers, (1000.0, 9500.0), (9000.0, 9500.0)) == 4


def test_side_by_side_gives_the_factors_that_each_quartet_alone_gives(bench):
    together, _ = ended()
    for number, quartet in enumerate(GRID):
        (alone,) = ended([quartet])[0].values()
        assert alone.side_by_side == (1, 4)
        assert together[number].standing.value == pytest.approx(alone.standing.value, rel=1e-3)
        speeds = [result.samples.throughput("wall").mean(axis=0) for result in (together[number], alone)]
        assert speeds[0] == pytest.approx(speeds[1], rel=1e-3)


def test_a_cell_that_computes_something_else_after_the_blocks_costs_its_quartets(bench, monkeypatch):
    monkeypatch.setattr(protocol, "Worker", FakeCell)
    monkeypatch.setattr(FakeCell, "kill", lambda self: None, raising=False)
    monkeypatch.setattr(FakeCell, "pid", 0, raising=False)
    monkeypatch.setattr(protocol, "cells_that_fit", lambda *_: 12)
    bench.failing = {"a": ("verify", 1)}  # not before the first visit
    found, _ = ended()
    for number, quartet in enumerate(GRID):
        if quartet["arch"] == "a":
            assert str(found[number]) == "arch: after the timed blocks: broke"
        else:
            assert isinstance(found[number], Measurement)


def test_in_the_device_pass_each_cell_follows_each_other_one_equally_often_whatever_the_second_pass_does(bench):
    bench.boundaries = ("device", "wall")
    settings = replace(SETTINGS, half_width=1e-12, min_blocks=24, max_blocks=24)
    found, _ = ended(settings=settings, primary="device")
    orders = [[]]
    for name, turn in bench.turns:
        if turn.boundaries == ("device",):
            orders[-1].append(name)
            if len(orders[-1]) == 12:
                orders.append([])
    pairs = Counter(pair for order in orders for pair in itertools.pairwise(order))
    assert found[0].samples.blocks == 24  # two squares of twelve rows
    assert len(pairs) == 12 * 11
    assert sum(count == 2 for count in pairs.values()) > 110  # but for rows that were turned around


def test_a_quartets_telemetry_holds_the_readings_of_its_own_visits(bench):
    found, _ = ended()
    for result in found.values():
        cells = Counter(row["cell"] for row in result.telemetry.rows)
        assert dict(cells) == dict.fromkeys(("baseline", "arch", "hw", "combined"), result.samples.blocks)


def test_quartets_that_failed_before_their_first_block_leave_no_budget_behind(bench, monkeypatch):
    budgets = []
    real = protocol._DesignRun.block

    def block(self, *arguments):
        budgets.append(self.budget_s)
        return real(self, *arguments)

    monkeypatch.setattr(protocol._DesignRun, "block", block)
    bench.failing = {"a": ("load", 0)}
    ended()
    assert set(budgets) == {4 * SETTINGS.budget_s}


@pytest.mark.parametrize(
    ("half_width", "left_s", "expected_s"), [(0.06, 99.0, 30.0), (0.06, 5.0, 5.0), (0.01, 99.0, 0.0)]
)
def test_the_time_to_come_is_until_the_interval_is_narrow_and_at_most_the_budgets(half_width, left_s, expected_s):
    """Forty blocks of a half-width that is 1, 2 or 1/3 times as wide as requested, which took ten seconds."""
    settings = replace(ProtocolConfig(), half_width=0.03, min_blocks=10)
    contrast = Contrast(0, {}, settings, SimpleNamespace(blocks=40), builds=1, family=1)
    contrast.standing = Standing("factor", 1.0, half_width, None, 40)
    assert remaining_s([contrast], 10.0, left_s) == pytest.approx(expected_s)
