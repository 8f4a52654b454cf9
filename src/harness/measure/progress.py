"""What a measurement reports while it runs: which stage, which cell, how narrow the interval is by now."""

from __future__ import annotations

from typing import Protocol

from harness.measure.stopping import Standing


class Progress(Protocol):
    """Somebody who watches one quartet. Called between timed slices, never inside one."""

    def stage(self, name: str, cell: str = "") -> None:
        """A stage has begun ("export", "build", "load", "verify", "warm-up"), for one cell or for all."""

    def block(self, standing: Standing, remaining_s: float) -> None:
        """A block is complete; all quartets that are measured together need about so much longer, NaN: unknown."""


class Silent:
    """Nobody watches."""

    def stage(self, name: str, cell: str = "") -> None:
        """Ignore."""

    def block(self, standing: Standing, remaining_s: float) -> None:
        """Ignore."""
