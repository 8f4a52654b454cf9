"""Every timed iteration of a quartet, and the block values that the statistics start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.measure.cell import Slice

if TYPE_CHECKING:
    import pandas

COLUMNS = ("cell", "build", "restart", "block", "order", "boundary", "milliseconds")


class Samples:
    """Grows by one visit at a time; a block is complete when every cell was visited."""

    def __init__(self, roles: Sequence[str], batch_size: int) -> None:
        self.roles = tuple(roles)
        self.batch_size = batch_size
        self.groups: list[int] = []  # the restart of each complete block
        self.builds: list[int] = []  # the build of each complete block
        self._rows: list[tuple[str, int, int, int, int, str, float]] = []
        self._milliseconds: dict[tuple[str, str], list[float]] = {}
        self._open: list[tuple[str, int, int, int, Slice]] = []
        self.discarded = 0  # blocks forgotten because the chip was slowing down
        self.launch_bound = False  # a cell has no device boundary because its launches take the host longer
        self.slowed = 0  # blocks kept although it was
        self._blocks: dict[str, list[list[float]]] = {}

    @property
    def blocks(self) -> int:
        """How many blocks are complete."""
        return len(self.groups)

    def add(self, role: str, restart: int, block: int, order: int, visit: Slice) -> None:
        """Add one visit of a cell to the open block: its iterations' milliseconds by boundary."""
        self._open.append((role, restart, block, order, visit))

    def close_block(self, restart: int, slowed: bool = False, build: int = 0) -> None:
        """Complete the block: its value per cell is images / seconds."""
        self.slowed += slowed
        values: dict[str, dict[str, float]] = {}
        for role, _, block, order, visit in self._open:
            for boundary, milliseconds in visit.milliseconds.items():
                self._rows += [(role, build, restart, block, order, boundary, ms) for ms in milliseconds]
                self._milliseconds.setdefault((role, boundary), []).extend(milliseconds)
                images = self.batch_size * len(milliseconds)
                values.setdefault(boundary, {})[role] = images / (sum(milliseconds) / 1e3)
        for boundary, by_role in values.items():
            if set(by_role) == set(self.roles):  # a boundary that a cell can't offer has no quartet
                self._blocks.setdefault(boundary, []).append([by_role[role] for role in self.roles])
        self._open = []
        self.groups.append(restart)
        self.builds.append(build)

    def forget_visits(self) -> None:
        """Forget the visits of the open block: it begins anew."""
        self._open = []

    def discard_block(self) -> None:
        """Forget the open block: the chip was slowed down while it was measured."""
        self.forget_visits()
        self.discarded += 1

    def throughput(self, boundary: str) -> np.ndarray:
        """Return images/s [blocks, cells] of a boundary, cells in the order of `roles`."""
        return np.array(self._blocks[boundary], dtype=float)

    @property
    def boundaries(self) -> tuple[str, ...]:
        """The boundaries that all cells have."""
        return tuple(self._blocks)

    def milliseconds(self, role: str, boundary: str) -> np.ndarray:
        """Return all iterations of one cell in the order they were timed."""
        return np.array(self._milliseconds[role, boundary])

    def frame(self) -> pandas.DataFrame:
        """Return one row an iteration, columns `COLUMNS`."""
        import pandas

        return pandas.DataFrame(self._rows, columns=list(COLUMNS))

    def write(self, path: Path) -> None:
        """Write `samples.parquet`, with the batch size in its metadata so that it can be read alone."""
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.Table.from_pandas(self.frame(), preserve_index=False)
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), b"batch_size": str(self.batch_size).encode()}
        )
        pyarrow.parquet.write_table(table, path, compression="zstd")
