"""The promises: what the estimator must reach on simulated quartets with sd(L) = 0.1 (measurement.md)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from cases import Row
from harness.stats.interaction import HOST_BOUND_RESTARTS

DESIGN_SD = 0.1


@dataclass(frozen=True)
class Bound:
    """One promise and what was found; `met` decides the exit status."""

    claim: str
    found: str
    met: bool


def check(rows: list[Row]) -> list[Bound]:
    """Return every promise with the worst value found; one that none of the rows can answer is left out."""
    fixed = [row for row in rows if row.sd == DESIGN_SD]
    single = [row for row in fixed if row.restarts == 1]
    longest = [row for row in single if row.blocks == 200]
    medium = [row for row in single if row.blocks == 60 and row.factor != 1.0]
    modes = [row for row in fixed if row.noise == "two-mode" and row.host_bound]
    enough = [row for row in modes if row.restarts == HOST_BOUND_RESTARTS]
    few = [row for row in modes if row.restarts < HOST_BOUND_RESTARTS]
    bounds = [_between("white: coverage at 200 blocks 93 to 97%", _of(longest, "white"), "coverage", 93, 97)]
    for noise in ("ar0.6", "ar0.9", "drift"):
        bounds.append(
            _between(f"{noise}: coverage at 200 blocks at least 90%", _of(longest, noise), "coverage", 90, inf)
        )
    for noise in ("white", "ar0.6", "ar0.9", "drift"):
        bounds.append(_between(f"{noise}: at most 1% false at every length", _of(single, noise), "false", -inf, 1))
    for noise in ("white", "ar0.6"):
        bounds.append(
            _between(f"{noise}: 0.7 and 1.3 recognised in 95% at 60 blocks", _of(medium, noise), "recognised", 95, inf)
        )
    bounds.append(_between("two-mode: at most 3% false at 8 restarts", enough, "false", -inf, 3))
    bounds.append(_between("two-mode: inconclusive below 8 restarts", few, "inconclusive", 100, inf))
    return [bound for bound in bounds if bound is not None]


def _of(rows: list[Row], noise: str) -> list[Row]:
    return [row for row in rows if row.noise == noise]


def _between(claim: str, rows: list[Row], column: str, low: float, high: float) -> Bound | None:
    if not rows:
        return None
    values = {getattr(row, column): row for row in rows}
    worst = min(values, key=lambda value: min(value - low, high - value))
    row = values[worst]
    return Bound(claim, f"{worst:.1f}% ({row.blocks} blocks, factor {row.factor})", low <= worst <= high)
