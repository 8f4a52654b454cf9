"""What the jobs of one sweep share, in whatever process they run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SweepContext:
    """What the jobs of one sweep share."""

    sweep_id: str
    engines: dict[str, str]  # as asked for ("auto", or a name) -> resolved
    device: str
