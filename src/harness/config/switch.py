"""What a technique without options of its own is switched by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Switch:
    """A technique without options."""

    enabled: bool = False
