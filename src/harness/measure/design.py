"""The design: the distinct cells of a sweep that are measured side by side, the quartets over them, and orders.

Five architectures by three accelerations are 15 quartets of 60 cells, only 24 of which are distinct.

A cell's time may depend on who ran before it (by 0.5 to 1.1% on an H100, three quarters of the variance of an Inductor
cell). Williams' squares balance that: of n cells they have n rows (2n where n is odd) in which each ordered pair of
neighbours comes equally often. E. J. Williams, Experimental designs balanced for the estimation of residual effects of
treatments, Australian Journal of Scientific Research A 2 (1949).

A `Contrast` is one quartet on its way through a design: its samples, its verdict, how many restarts it still needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import psutil

from harness.config import ProtocolConfig
from harness.measure.bring_up import check_same_boundaries, common_boundaries, primary_boundary
from harness.measure.cell import Cell, Loaded
from harness.measure.coordinator import Worker
from harness.measure.samples import Samples
from harness.measure.settings import CPU_RESTARTS, fallen_back
from harness.measure.stopping import Standing, family_level, host_bound, is_look, standing

HEADROOM = 1.25  # the largest of the cells that were counted, and what the others may take beside it
UNKNOWN = 1_000_000  # cells: as many as there are
DEVICE_SHARE, HOST_SHARE = 0.95, 0.85  # of the memory that is free


@dataclass(frozen=True)
class Design:
    """Distinct cells by their names, once for each build of their engines, and the quartets that are made of them."""

    builds: tuple[Mapping[str, Cell], ...]
    quartets: tuple[Mapping[str, str], ...]  # role -> the cell's name

    def part(self, numbers: Sequence[int]) -> Design:
        """Return the design of some of the quartets and their cells alone."""
        quartets = tuple(self.quartets[number] for number in numbers)
        names = cells_of(quartets)
        return Design(tuple({name: cells[name] for name in names} for cells in self.builds), quartets)


def alone(builds: Sequence[Sequence[Cell]]) -> Design:
    """Return the design that is one quartet, whose cells are named by their roles."""
    names = {cell.name: cell.name for cell in builds[0]}
    return Design(tuple({cell.name: cell for cell in cells} for cells in builds), (names,))


def cells_of(quartets: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the distinct cells of some quartets, in their order."""
    return list(dict.fromkeys(name for quartet in quartets for name in quartet.values()))


def first_part(quartets: Sequence[Mapping[str, str]], most_cells: int) -> list[int]:
    """Return which quartets to measure now, so that they have at most `most_cells` cells; the first is one of them.

    Of all ways to cut the grid of arch cells by hw cells into rectangles that fit, the one that visits the fewest cells
    is taken, for each rectangle brings up its baseline, rows and columns again. One quartet is a part in any case.
    """
    if len(cells_of(quartets)) <= most_cells:
        return list(range(len(quartets)))
    rows = list(dict.fromkeys(quartet.get("arch", "") for quartet in quartets))
    columns = list(dict.fromkeys(quartet.get("hw", "") for quartet in quartets))
    sizes = [
        (height, width)
        for height in range(1, len(rows) + 1)
        for width in range(1, len(columns) + 1)
        if (height + 1) * (width + 1) <= most_cells
    ]
    if not sizes:
        return [0]
    height, width = min(sizes, key=lambda size: (_visits(len(rows), len(columns), *size), -size[0] * size[1]))
    first = quartets[0]
    row, column = rows.index(first.get("arch", "")) // height, columns.index(first.get("hw", "")) // width
    return [
        number
        for number, quartet in enumerate(quartets)
        if rows.index(quartet.get("arch", "")) // height == row
        and columns.index(quartet.get("hw", "")) // width == column
    ]


def _visits(rows: int, columns: int, height: int, width: int) -> int:
    """Return how many cells all rectangles of a grid have together, each with its own baseline, rows and columns."""
    heights = [min(height, rows - start) for start in range(0, rows, height)]
    widths = [min(width, columns - start) for start in range(0, columns, width)]
    return sum((h + 1) * (w + 1) for h in heights for w in widths)


def cells_that_fit(
    workers: Sequence[Worker], before_mb: tuple[float, float] | None, now_mb: tuple[float, float] | None
) -> int:
    """Return how many cells the machine holds in all, from those that are loaded and have run; `UNKNOWN` if untold.

    Args:
        workers: the processes of the cells that are loaded.
        before_mb: GPU memory used and in total before they were; None where the driver does not tell.
        now_mb: the same now.

    """
    count = len(workers)
    held = max((_unshared_bytes(worker.pid) for worker in workers), default=0.0)
    room = math.inf if held == 0 else HOST_SHARE * psutil.virtual_memory().available / (HEADROOM * held)
    if count and before_mb is not None and now_mb is not None and now_mb[0] > before_mb[0]:
        each = (now_mb[0] - before_mb[0]) / count
        room = min(room, DEVICE_SHARE * (now_mb[1] - now_mb[0]) / (HEADROOM * each))
    return UNKNOWN if math.isinf(room) else count + max(0, int(room))


def _unshared_bytes(pid: int) -> float:
    """Return the host memory that a process has for itself; 0 where the system does not tell."""
    try:
        return float(psutil.Process(pid).memory_full_info().uss)
    except (psutil.Error, AttributeError):
        return 0.0


def williams(count: int) -> list[list[int]]:
    """Return the rows of a square for `count` cells, each a permutation of 0 to count - 1."""
    steps = [0]
    for number in range(1, count):
        steps.append((number + 1) // 2 if number % 2 else count - number // 2)
    rows = [[(step + shift) % count for step in steps] for shift in range(count)]
    return rows if count % 2 == 0 else rows + [row[::-1] for row in rows]


class Orders:
    """Random Williams squares, row by row; a new one begins when the last is used up or other cells are visited."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._cells: tuple[str, ...] = ()
        self._rows: list[list[str]] = []

    def draw(self, cells: Sequence[str], last: str = "") -> list[str]:
        """Return an order of the cells; of more than two none begins with `last`, the cell visited just before.

        On a GPU a cell that ran twice in a row was slower by 1.3% than after another process: see
        experiments/aa_h200_first_order.
        """
        if self._cells != tuple(cells) or not self._rows:
            self._cells = tuple(cells)
            labels = [cells[index] for index in self._generator.permutation(len(cells))]
            rows = williams(len(cells))
            self._rows = [[labels[place] for place in rows[index]] for index in self._generator.permutation(len(rows))]
        fitting = (number for number, row in enumerate(self._rows) if len(cells) < 3 or row[0] != last)
        number = next(fitting, None)
        if number is not None:
            return self._rows.pop(number)
        row = self._rows.pop()  # every row that is left begins with it: this one is turned around
        return row[::-1]


def set_aside(group: Sequence[Contrast]) -> bool:
    """Forget the open block of quartets that were measured together if it holds a stall; return whether it did."""
    stalls = [found for contrast in group if (found := contrast.samples.open_stall) is not None]
    if not stalls or not all(contrast.samples.sets_aside for contrast in group):
        return False
    for contrast in group:
        contrast.samples.set_aside(stalls[0])
    return True


def samples_of(quartet: Mapping[str, str], cells: Mapping[str, Cell]) -> Samples:
    """Return a quartet's samples, still empty, with what is known of its restarts and builds."""
    first = next(iter(cells.values()))
    tuned = {role: spread for role, name in quartet.items() if (spread := cells[name].build_spread)}
    return Samples(list(quartet), first.batch_size, CPU_RESTARTS if first.device == "cpu" else None, tuned)


@dataclass
class Contrast:
    """One quartet (or the one or two cells that are left without a technique)."""

    number: int  # in its design
    cells: Mapping[str, str]  # role -> the cell's name
    settings: ProtocolConfig
    samples: Samples
    builds: int  # of every engine
    family: int  # how many quartets the sweep has
    restarts: int = 1  # how many are to be measured
    first_blocks: int = 0  # of the first restart
    blocks: int = 0  # of this restart
    resting: bool = False  # it has blocks enough in this restart
    ended: bool = False  # it was handed over, measured or failed
    standing: Standing | None = None  # of the last block
    primary: str = ""  # the boundary that verdicts use
    boundaries: tuple[str, ...] = ()
    moved: str = ""  # why the primary boundary is not the planned one
    cut: str = ""  # why there were fewer restarts than planned
    loaded: Mapping[str, Loaded] = field(default_factory=dict)  # by role

    def __post_init__(self) -> None:
        self.restarts = self._whole_builds(self.settings.restarts)

    def _whole_builds(self, restarts: int) -> int:
        """Return at least so many restarts, the same number for each build."""
        return math.ceil(max(restarts, self.builds) / self.builds) * self.builds

    @property
    def label(self) -> str:
        """What it is called beside others, as its last cell is; "" where it is alone and cells are called by roles."""
        role, name = list(self.cells.items())[-1]
        return "" if name == role else name

    @property
    def roles(self) -> dict[str, str]:
        """Its roles, by the cell's name."""
        return {name: role for role, name in self.cells.items()}

    def begin(self, planned: str, loaded: Mapping[str, Loaded]) -> None:
        """Decide, from the cells of the first restart, on which boundaries all restarts are measured.

        Raises CellError if the requested boundary does not exist.
        """
        self.loaded = {role: loaded[name] for role, name in self.cells.items()}
        self.primary, self.moved = primary_boundary(planned, self.loaded, self.settings)
        self.settings = fallen_back(self.settings, planned, self.primary)
        self.boundaries = common_boundaries(self.loaded)
        self.samples.launch_bound = any(cell.no_device for cell in self.loaded.values())

    def check_again(self, loaded: Mapping[str, Loaded]) -> None:
        """Raise CellError where a later restart lacks a boundary of the first one."""
        check_same_boundaries(self.boundaries, {role: loaded[name] for role, name in self.cells.items()})

    def fewest_blocks(self) -> int:
        """Return how many blocks a restart has at least: together they have `min_blocks`."""
        least = min(self.settings.min_blocks, self.settings.max_blocks)
        return max(min(2, least), math.ceil(least / self.restarts))

    def close_block(self, restart: int, slowed: bool, build: int) -> Standing:
        """Complete a block; return the quartet's current verdict."""
        self.samples.close_block(restart, slowed, build)
        self.blocks += 1
        level = family_level(self.settings.level, self.family)
        found = standing(self.samples, self.primary, self.settings, level, self.builds)
        self.standing = replace(found, quartet=self.label)
        return self.standing

    def blocks_to_come(self) -> float:
        """Estimate how many more blocks it takes: an interval narrows with the square root of its blocks."""
        if self.standing is None or self.samples.blocks < self.settings.min_blocks:
            return math.inf
        assert self.settings.half_width is not None, "settle the protocol first"
        needed = self.samples.blocks * (self.standing.widest / self.settings.half_width) ** 2
        return max(0.0, min(needed, self.settings.max_blocks) - self.samples.blocks)

    def has_enough(self, number: int, spent: bool, fresh: bool) -> bool:
        """Whether a restart has blocks enough; the first one also finds out how many restarts there are to be."""
        settings = self.settings
        assert self.standing is not None
        if number == 0 and self.blocks == min(settings.min_blocks, settings.max_blocks):
            self._ask_for_restarts(fresh)
        over = spent or self.samples.blocks >= math.ceil((number + 1) / self.restarts * settings.max_blocks)
        if number > 0:
            over = over or self.blocks >= self.first_blocks
            return over and self.blocks >= self.fewest_blocks()
        self.first_blocks = self.blocks
        enough = is_look(self.blocks, settings.min_blocks) and self.standing.enough(settings)
        # a verdict needs replicates: the minimum of blocks is measured even where the budget is too small for it
        return enough or (over and self.blocks >= self.fewest_blocks())

    def _ask_for_restarts(self, fresh: bool) -> None:
        """Plan more restarts where a cell waits for its host and the verdict is not the device's.

        Such a cell keeps one of several modes for as long as its process lives: only fresh ones tell. Where each visit
        has a fresh process there is nothing to ask for.
        """
        if self.primary != "device" and not fresh and host_bound(self.samples):
            self.restarts = self._whole_builds(max(self.restarts, self.settings.host_bound_restarts))


def remaining_s(contrasts: Sequence[Contrast], spent_s: float, left_s: float) -> float:
    """Estimate how much longer blocks take: until all intervals are narrow, at most what the budget has left."""
    blocks = sum(contrast.samples.blocks for contrast in contrasts)
    if not blocks:
        return math.nan
    needed = sum(contrast.blocks_to_come() for contrast in contrasts if not contrast.ended)
    return max(0.0, min(left_s, needed * spent_s / blocks))
