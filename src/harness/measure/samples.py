"""Every timed iteration of a quartet, and the block values that the statistics start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.measure.cell import Slice

if TYPE_CHECKING:
    import pandas

COLUMNS = ("cell", "build", "restart", "block", "order", "previous", "boundary", "milliseconds")
MOST_ROWS = 2_000_000  # of a file, but for one a visit: 2.1 bytes each for times of the host's clock, 8 at most


class Samples:
    """Grows by one visit at a time; a block is complete when every cell was visited."""

    def __init__(self, roles: Sequence[str], batch_size: int) -> None:
        self.roles = tuple(roles)
        self.batch_size = batch_size
        self.groups: list[int] = []  # the restart of each complete block
        self.builds: list[int] = []  # the build of each complete block
        self._visits: list[tuple[tuple[str, int, int, int, int, str, str], np.ndarray]] = []  # COLUMNS but the last; it
        self._milliseconds: dict[tuple[str, str], list[np.ndarray]] = {}
        self._open: list[tuple[str, int, int, int, str, Slice]] = []
        self.discarded = 0  # blocks forgotten because the chip was slowing down
        self.launch_bound = False  # a cell has no device boundary because its launches take the host longer
        self.slowed = 0  # blocks kept although it was
        self._blocks: dict[str, list[list[float]]] = {}
        self._replication: dict[str, list[tuple[int, int]]] = {}  # restart and build of those blocks
        self._previous: dict[str, list[list[str]]] = {}  # who was visited before each of their visits

    @property
    def blocks(self) -> int:
        """How many blocks are complete."""
        return len(self.groups)

    def add(self, role: str, restart: int, block: int, order: int, visit: Slice, previous: str = "") -> None:
        """Add one visit of a cell to the open block: its iterations' milliseconds by boundary.

        `previous` names the cell that was visited just before, "" where there was none.
        """
        self._open.append((role, restart, block, order, previous, visit))

    def close_block(self, restart: int, slowed: bool = False, build: int = 0) -> None:
        """Complete the block: its value per cell is images / seconds."""
        self.slowed += slowed
        values: dict[str, dict[str, float]] = {}
        before: dict[str, dict[str, str]] = {}
        for role, _, block, order, previous, visit in self._open:
            for boundary, milliseconds in visit.milliseconds.items():
                timed = np.array(milliseconds, dtype=float)
                self._visits.append(((role, build, restart, block, order, previous, boundary), timed))
                self._milliseconds.setdefault((role, boundary), []).append(timed)
                images = self.batch_size * len(milliseconds)
                values.setdefault(boundary, {})[role] = images / (sum(milliseconds) / 1e3)
                before.setdefault(boundary, {})[role] = previous
        for boundary, by_role in values.items():
            if set(by_role) == set(self.roles):  # a boundary that a cell can't offer has no quartet
                self._blocks.setdefault(boundary, []).append([by_role[role] for role in self.roles])
                self._replication.setdefault(boundary, []).append((restart, build))
                self._previous.setdefault(boundary, []).append([before[boundary][role] for role in self.roles])
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
        """Return images/s [blocks, cells] of a boundary, cells in the order of `roles`.

        Of a secondary boundary there are fewer blocks than of the primary one.
        """
        return np.array(self._blocks[boundary], dtype=float)

    def previous(self, boundary: str) -> list[list[str]]:
        """Return who was visited just before each visit of those blocks, [blocks, cells]; "" where nobody was."""
        return self._previous[boundary]

    def replication(self, boundary: str) -> tuple[np.ndarray, np.ndarray]:
        """Return restart and build of each of those blocks, both [blocks]."""
        restarts, builds = np.array(self._replication[boundary], dtype=np.intp).T
        return restarts, builds

    @property
    def boundaries(self) -> tuple[str, ...]:
        """The boundaries that all cells have."""
        return tuple(self._blocks)

    def milliseconds(self, role: str, boundary: str) -> np.ndarray:
        """Return all iterations of one cell in the order they were timed."""
        return np.concatenate(self._milliseconds[role, boundary])

    @property
    def kept_every(self) -> int:
        """1: the file holds every iteration; n: every n-th of each visit, for all would be more than `MOST_ROWS`."""
        return max(1, -(-sum(len(timed) for _, timed in self._visits) // MOST_ROWS))

    def frame(self, every: int = 1) -> pandas.DataFrame:
        """Return one row an iteration, columns `COLUMNS`; of each visit the first and every `every`-th after it."""
        import pandas

        thinned = [timed[::every] for _, timed in self._visits]
        keys = pandas.DataFrame([key for key, _ in self._visits], columns=list(COLUMNS[:-1]))
        out = keys.loc[np.repeat(np.arange(len(thinned)), [len(timed) for timed in thinned])].reset_index(drop=True)
        out[COLUMNS[-1]] = np.concatenate(thinned) if thinned else np.empty(0)
        return out

    def write(self, path: Path) -> tuple[Path, ...]:
        """Write `samples.parquet`, with the batch size in its metadata so that it can be read alone.

        Where it does not hold every iteration (`kept_every` in its metadata), `visits.parquet` beside it has the number
        of iterations and the milliseconds of each whole visit, so that block values can still be recomputed exactly.
        Returns the files written.
        """
        every = self.kept_every
        self._write(self.frame(every), path, {b"kept_every": str(every).encode()})
        if every == 1:
            return (path,)
        visits = self.frame().groupby(list(COLUMNS[:-1]), sort=False)[COLUMNS[-1]].agg(iterations="count", total="sum")
        visits_path = path.with_name("visits.parquet")
        self._write(visits.rename(columns={"total": COLUMNS[-1]}).reset_index(), visits_path, {})
        return (path, visits_path)

    def _write(self, frame: pandas.DataFrame, path: Path, notes: dict[bytes, bytes]) -> None:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        known = table.schema.metadata or {}
        table = table.replace_schema_metadata({**known, b"batch_size": str(self.batch_size).encode(), **notes})
        pyarrow.parquet.write_table(table, path, compression="zstd")
