"""Parts that only one of two engines names can't be compared: their time is work of no known part, in all cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.engines.profiling import ENOUGH, SPANNING, UNKNOWN, CellProfile, order_of

PAIRS = (("baseline", "hw"), ("arch", "combined"))  # the same network without and with the hardware techniques


def lone_parts(profiles: Mapping[str, CellProfile]) -> tuple[str, ...]:
    """Return the parts with no counterpart, in the network's order, where they are much of a cell; else none.

    A part of one cell that the same network has not in the other has been named differently, or fused with another:
    a ratio of its times says nothing. That a technique takes a part away, or adds one, is nothing of the kind.
    """
    lone: set[str] = set()
    for one, other in PAIRS:
        lone |= set(profiles[one].parts_ms) ^ set(profiles[other].parts_ms)
    lone -= {SPANNING, UNKNOWN}
    shares = [sum(profile.parts_ms.get(part, 0.0) for part in lone) / profile.work_ms for profile in profiles.values()]
    return tuple(sorted(lone, key=order_of)) if max(shares) > 1 - ENOUGH else ()


def lumped(profile: CellProfile, lone: tuple[str, ...]) -> CellProfile:
    """Return a profile with these parts, and what spans parts, as UNKNOWN; as it is if there are none."""
    if not lone:
        return profile
    away = {*lone, SPANNING, UNKNOWN}
    out = {part: ms for part, ms in profile.parts_ms.items() if part not in away}
    lump = sum(ms for part, ms in profile.parts_ms.items() if part in away)
    return replace(profile, parts_ms={**out, UNKNOWN: lump} if lump else out)
