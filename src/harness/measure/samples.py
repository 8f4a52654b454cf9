"""Every timed iteration of a quartet, and the block values that the statistics start from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.measure.cell import Slice
from harness.stats.prior import KnownSpread, of_a_contrast
from harness.system.counts import counted

if TYPE_CHECKING:
    import pandas


COLUMNS = ("cell", "build", "restart", "block", "order", "previous", "boundary", "milliseconds")
# An iteration stalled that took so many times as long as is usual and so much longer, if that is this share of what its
# whole visit usually takes: a suspended machine, a stolen CPU. What is shorter is noise, which intervals hold.
STALL_TIMES, STALL_MS, STALL_SHARE = 3.0, 200.0, 0.5
FEW = 3  # iterations: so many tell by themselves what is usual
SET_ASIDE, SET_ASIDE_EVERY = 3, 4  # stalled blocks are measured again: these, and one more for so many blocks
MOST_ROWS = 2_000_000  # of a file, but for one a visit: 2.1 bytes each for times of the host's clock, 8 at most


@dataclass(frozen=True)
class Stall:
    """An iteration far outside its neighbours, and what they take; milliseconds."""

    ms: float
    usual_ms: float


def stall(milliseconds: Sequence[float], usual_ms: float) -> Stall | None:
    """Return the longest iteration of a visit if some of them stalled; None where `usual_ms` is NaN."""
    timed = np.asarray(milliseconds, dtype=float)
    far = timed[timed > STALL_TIMES * usual_ms + STALL_MS]
    if not far.size or float(np.sum(far - usual_ms)) < STALL_SHARE * usual_ms * timed.size:
        return None
    return Stall(float(far.max()), usual_ms)


class Samples:
    """Grows by one visit at a time; a block is complete when every cell was visited."""

    def __init__(
        self,
        roles: Sequence[str],
        batch_size: int,
        restart_spread: KnownSpread | None = None,
        build_spreads: Mapping[str, KnownSpread] | None = None,
    ) -> None:
        self.roles = tuple(roles)
        self.batch_size = batch_size
        self.build_spreads = build_spreads or {}  # by the role of a cell that is tuned while it is built
        self.restart_spread = restart_spread  # what blocks of one restart don't show here; None: nothing is known
        self.groups: list[int] = []  # the restart of each complete block
        self.builds: list[int] = []  # the build of each complete block
        self._visits: list[tuple[tuple[str, int, int, int, int, str, str], np.ndarray]] = []  # COLUMNS but the last; it
        self._milliseconds: dict[tuple[str, str], list[np.ndarray]] = {}
        self._open: list[tuple[str, int, int, int, str, Slice]] = []
        self.discarded = 0  # blocks forgotten because the chip was slowing down
        self.launch_bound = False  # a cell has no device boundary because its launches take the host longer
        self.slowed = 0  # blocks kept although it was
        self.stalls: list[Stall] = []  # one for each block that was set aside for it
        self.stalled = 0  # blocks kept although an iteration of theirs stalled
        self.open_stall: Stall | None = None  # the longest of the open block
        self.warmed_ms: dict[str, float] = {}  # of an iteration in the warm-up, by role
        self._medians: dict[tuple[str, str], list[float]] = {}  # of complete visits, ms
        self._blocks: dict[str, list[list[float]]] = {}
        self._replication: dict[str, list[tuple[int, int]]] = {}  # restart and build of those blocks
        self._previous: dict[str, list[list[str]]] = {}  # who was visited before each of their visits

    def build_spread(self, roles: Sequence[str]) -> KnownSpread | None:
        """Return how far other builds move a ratio of these cells, where that is known."""
        return of_a_contrast(self.build_spreads[role] for role in roles if role in self.build_spreads)

    @property
    def blocks(self) -> int:
        """How many blocks are complete."""
        return len(self.groups)

    def add(self, role: str, restart: int, block: int, order: int, visit: Slice, previous: str = "") -> None:
        """Add one visit of a cell to the open block: its iterations' milliseconds by boundary.

        `previous` names the cell that was visited just before, "" where there was none.
        """
        self._open.append((role, restart, block, order, previous, visit))
        for boundary, milliseconds in visit.milliseconds.items():
            found = stall(milliseconds, self._usual_ms(role, boundary, milliseconds))
            if found is not None and (self.open_stall is None or found.ms > self.open_stall.ms):
                self.open_stall = found

    def _usual_ms(self, role: str, boundary: str, milliseconds: Sequence[float]) -> float:
        """Return what an iteration usually takes, NaN where nothing tells: of few, their neighbours' visits do."""
        if len(milliseconds) >= FEW:
            return float(np.median(milliseconds))
        known = self._medians.get((role, boundary))
        return min(known) if known else self.warmed_ms.get(role, math.nan)

    def close_block(self, restart: int, slowed: bool = False, build: int = 0) -> None:
        """Complete the block: its value per cell is images / seconds."""
        self.slowed += slowed
        self.stalled += self.open_stall is not None
        values: dict[str, dict[str, float]] = {}
        before: dict[str, dict[str, str]] = {}
        for role, _, block, order, previous, visit in self._open:
            for boundary, milliseconds in visit.milliseconds.items():
                timed = np.array(milliseconds, dtype=float)
                self._visits.append(((role, build, restart, block, order, previous, boundary), timed))
                self._milliseconds.setdefault((role, boundary), []).append(timed)
                self._medians.setdefault((role, boundary), []).append(float(np.median(timed)))
                images = self.batch_size * len(milliseconds)
                values.setdefault(boundary, {})[role] = images / (sum(milliseconds) / 1e3)
                before.setdefault(boundary, {})[role] = previous
        for boundary, by_role in values.items():
            if set(by_role) == set(self.roles):  # a boundary that a cell can't offer has no quartet
                self._blocks.setdefault(boundary, []).append([by_role[role] for role in self.roles])
                self._replication.setdefault(boundary, []).append((restart, build))
                self._previous.setdefault(boundary, []).append([before[boundary][role] for role in self.roles])
        self.forget_visits()
        self.groups.append(restart)
        self.builds.append(build)

    def forget_visits(self) -> None:
        """Forget the visits of the open block: it begins anew."""
        self._open, self.open_stall = [], None

    def discard_block(self) -> None:
        """Forget the open block: the chip was slowed down, or an iteration stalled, while it was measured."""
        self.forget_visits()
        self.discarded += 1

    def set_aside(self, stalled: Stall) -> None:
        """Forget the open block, in which an iteration stalled, here or in a cell that is measured beside these."""
        self.stalls.append(self.open_stall or stalled)
        self.discard_block()

    @property
    def sets_aside(self) -> bool:
        """Whether one more stalled block is measured again: if too many stall, that is how the cells are."""
        return len(self.stalls) < SET_ASIDE + self.blocks // SET_ASIDE_EVERY

    @property
    def stall_note(self) -> str:
        """Tell of stalled blocks; "" where there were none."""
        longest = max(self.stalls, key=lambda found: found.ms, default=None)
        notes = []
        if longest is not None:
            again = f"{counted(len(self.stalls), 'block')} measured again: an iteration stalled"
            notes.append(f"{again} ({longest.ms:,.0f} ms where {longest.usual_ms:,.3g} ms are usual)")
        if self.stalled:
            notes.append(f"{self.stalled} of {counted(self.blocks, 'block')} hold an iteration that stalled")
        return "; ".join(notes)

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
