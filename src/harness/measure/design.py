"""What a plan is: the cells of a quartet, and what each one is made of."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config import ArchConfig, HarnessConfig
from harness.measure.settings import primary_of
from harness.techniques.levels import Levels


@dataclass(frozen=True)
class CellPlan:
    """One cell before anything was built."""

    role: str  # baseline | arch | hw | combined
    arch: ArchConfig  # techniques that are off in this cell are off here
    engine: str
    levels: Levels


@dataclass(frozen=True)
class QuartetPlan:
    """One Hydra job: the cells of a 2x2 design, or the one or two that are left without a technique."""

    config: HarnessConfig
    device: str  # cpu | cuda
    engine: str  # resolved; what the last cell runs on
    arch: tuple[str, ...]
    hw: tuple[str, ...]
    cells: tuple[CellPlan, ...]

    @property
    def primary(self) -> str:
        """The boundary that verdicts use."""
        return primary_of(self.config.protocol, self.device)

    @property
    def label(self) -> str:
        """A short name: what is tested, first."""
        if not self.arch and not self.hw:
            return "baseline"
        return f"{'+'.join(self.arch) or 'none'} x {'+'.join(self.hw) or 'none'}"
