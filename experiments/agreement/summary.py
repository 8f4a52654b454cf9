"""From rounds to a verdict a clock: the median of the paired ratios against a limit that was set beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from reading import Reading
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy.stats import binom

LIMIT = {"device": 0.02, "wall": 0.05}  # of |ratio - 1|, by boundary
OVERHEAD_LIMIT = 0.01


@dataclass(frozen=True)
class Row:
    """One clock over all rounds."""

    clock: str
    boundary: str
    pairing: str
    statistic: str
    rounds: int
    iterations: int  # over all rounds, the outside clock's
    ours_ms: float  # medians over rounds
    outside_ms: float
    ratio: float  # median over rounds of outside over ours, each of one round
    ratio_q1: float
    ratio_q3: float
    ratio_low: float | None  # 95% interval of that median, if rounds are independent; None: too few rounds
    ratio_high: float | None
    worst_iteration: float | None
    limit: float | None  # of |ratio - 1|; None: a control, nothing to be met
    ok: bool | None


def summarise(readings: Sequence[Reading]) -> list[Row]:
    """Return one row a comparison: controls first, then wall, device and what our loop costs."""
    groups: dict[tuple[str, str, str], list[Reading]] = {}
    for reading in readings:
        groups.setdefault((reading.clock, reading.boundary, reading.pairing), []).append(reading)
    kinds = ("control", "clock", "overhead")
    order = sorted(groups.values(), key=lambda g: (kinds.index(g[0].kind), g[0].boundary != "wall", g[0].clock))
    return [_row(group) for group in order]


def missed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that are beyond their limit."""
    return [row for row in rows if row.ok is False]


def _row(group: Sequence[Reading]) -> Row:
    one = group[0]
    ratios = sorted(r.ratio for r in group)
    q1, ratio, q3 = (float(value) for value in np.quantile(ratios, [0.25, 0.5, 0.75]))
    below = int(binom.ppf(0.025, len(ratios), 0.5))  # order statistics: no shape is assumed
    limit = {"control": None, "overhead": OVERHEAD_LIMIT}.get(one.kind, LIMIT[one.boundary.partition(",")[0]])
    worst = [r.worst for r in group if r.worst is not None]
    return Row(
        clock=one.clock,
        boundary=one.boundary,
        pairing=one.pairing,
        statistic=one.statistic,
        rounds=len(group),
        iterations=sum(r.iterations for r in group),
        ours_ms=float(np.median([r.ours_ms for r in group])),
        outside_ms=float(np.median([r.outside_ms for r in group])),
        ratio=ratio,
        ratio_q1=q1,
        ratio_q3=q3,
        ratio_low=ratios[below - 1] if below else None,
        ratio_high=ratios[-below] if below else None,
        worst_iteration=max(worst) if worst else None,
        limit=limit,
        ok=None if limit is None else abs(ratio - 1) <= limit,
    )


def table(rows: Sequence[Row], title: str) -> Table:
    """Return the rows as a table for a terminal."""
    out = Table(title=title, box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("clock", "boundary", "iterations are", "of"):
        out.add_column(name)
    for name in ("ours ms", "outside ms", "ratio", "quartiles", "95% of it", "limit", ""):
        out.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        out.add_row(
            row.clock,
            row.boundary,
            "the same" if row.pairing == "same" else "in turn",
            row.statistic,
            f"{row.ours_ms:.3f}",
            f"{row.outside_ms:.3f}",
            f"{row.ratio:.4f}",
            f"{row.ratio_q1:.4f} {row.ratio_q3:.4f}",
            f"{row.ratio_low:.4f} {row.ratio_high:.4f}" if row.ratio_low and row.ratio_high else "",
            "" if row.limit is None else f"{row.limit:.0%}",
            {None: "control", True: "[green]ok[/]", False: "[bold red]NOT[/]"}[row.ok],
        )
    return out
