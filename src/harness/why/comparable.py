"""Parts that only one of two engines names can't be compared: their time is work of no known part in all cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.why.profile import ENOUGH, SPANNING, UNKNOWN, CellProfile

SIDES = (("baseline", "arch"), ("hw", "combined"))  # what the hardware techniques leave alone, and what they change


def comparable(profiles: Mapping[str, CellProfile]) -> Mapping[str, CellProfile]:
    """Return the profiles with what has no counterpart as UNKNOWN, where that is much of a cell; else as they are.

    A part that is in `baseline` or `arch` but in neither `hw` nor `combined` (or the reverse) has been named
    differently, or fused with another: a ratio of its times across the sides says nothing.
    """
    named = [{part for role in side for part in profiles[role].parts_ms} - {SPANNING, UNKNOWN} for side in SIDES]
    lone = named[0] ^ named[1]
    shares = [sum(profile.parts_ms.get(part, 0.0) for part in lone) / profile.work_ms for profile in profiles.values()]
    if max(shares) <= 1 - ENOUGH:
        return profiles
    lone |= {SPANNING}
    return {role: replace(profile, parts_ms=_lumped(profile.parts_ms, lone)) for role, profile in profiles.items()}


def _lumped(parts_ms: Mapping[str, float], lone: set[str]) -> dict[str, float]:
    out = {part: ms for part, ms in parts_ms.items() if part not in lone}
    lump = sum(ms for part, ms in parts_ms.items() if part in lone)
    return {**out, UNKNOWN: out.get(UNKNOWN, 0.0) + lump} if lump else out
