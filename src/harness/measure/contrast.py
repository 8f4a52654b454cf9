"""One quartet on its way through a design: its samples, how it stands, how many restarts it still needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.config import ProtocolConfig
from harness.measure.bring_up import check_same_boundaries, common_boundaries, primary_boundary
from harness.measure.cell import Loaded
from harness.measure.samples import Samples
from harness.measure.settings import fallen_back
from harness.measure.stopping import Standing, family_level, host_bound, is_look, standing


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
    def roles(self) -> dict[str, str]:
        """Its roles, by the cell's name."""
        return {name: role for role, name in self.cells.items()}

    def begin(self, planned: str, loaded: Mapping[str, Loaded]) -> None:
        """Decide, from the cells of the first restart, on which boundaries all restarts are measured.

        Raises CellError where the boundary that the user asked for is not there.
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
        """Complete a block; return how the quartet stands."""
        self.samples.close_block(restart, slowed, build)
        self.blocks += 1
        level = family_level(self.settings.level, self.family)
        self.standing = standing(self.samples, self.primary, self.settings, level)
        return self.standing

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
