"""The design: the distinct cells of a sweep that are measured side by side, and the quartets over them.

Five architectures by three accelerations are 15 quartets of 60 cells, and only 24 distinct ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from harness.measure.cell import Cell
from harness.measure.coordinator import Worker

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
