"""In which order cells are visited: over a whole square each follows each other one equally often.

A cell's time may depend on who ran before it (by 0.5 to 1.1% on an H100, three quarters of the variance of an Inductor
cell). Williams' squares balance that: of n cells they have n rows (2n where n is odd) in which each ordered pair of
neighbours comes equally often. E. J. Williams, Experimental designs balanced for the estimation of residual effects of
treatments, Australian Journal of Scientific Research A 2 (1949).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
