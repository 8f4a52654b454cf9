"""Where the time of each cell goes, by part of the network, from the engines' own profilers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.engines.profiling.profile import SPANNING, UNKNOWN
from harness.report.figures.canvas import FAINT, GROUND, INK, Picture, canvas
from harness.report.quartets import QuartetRow
from harness.stats.roles import ROLES

_HATCHES = {SPANNING: "xxx", UNKNOWN: "|||"}


def draw_stages(one: QuartetRow, why: Mapping[str, Any], number: int) -> Picture | None:
    """Draw one bar a cell, scaled to what was timed; None where the quartet was not profiled."""
    from matplotlib import colormaps

    parts: Mapping[str, Mapping[str, float]] = why.get("part_ms") or {}
    if not parts or not all(set(ROLES) <= set(times) for times in parts.values()):
        return None
    colours = colormaps["cividis"]  # made for the colour-blind; neighbours differ in lightness too
    known = [name for name in parts if name not in _HATCHES]
    totals = {role: sum(times[role] for times in parts.values()) for role in ROLES}
    with canvas(3.2) as (figure, axes):
        left = dict.fromkeys(ROLES, 0.0)
        for name, times in parts.items():
            share = known.index(name) / max(1, len(known) - 1) if name in known else 0.0
            colour = colours(0.08 + 0.9 * share) if name in known else FAINT
            axes.barh(
                range(4), [times[role] / totals[role] for role in ROLES], 0.7, left=[left[role] for role in ROLES],
                color=colour, edgecolor=GROUND, linewidth=0.8, hatch=_HATCHES.get(name, ""), label=name,
            )  # fmt: skip
            for role in ROLES:
                left[role] += times[role] / totals[role]
        for row, role in enumerate(ROLES):
            axes.text(1.01, row, f"{totals[role]:.3g} ms", va="center", fontsize=8, color=INK)
        axes.set_yticks(range(4), list(ROLES))
        axes.invert_yaxis()
        axes.set(xlim=(0, 1.18), xlabel="share of the work's time")
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        figure.legend(loc="outside lower center", ncols=3)
    told = "; ".join(
        f"{name}: " + ", ".join(f"{role} {times[role]:.3g} ms" for role in ROLES) for name, times in parts.items()
    )
    sources = ", ".join(dict.fromkeys(str(profile["source"]) for profile in (why.get("profiles") or {}).values()))
    return Picture(
        f"stages{number}", f"Time by part of the network: {one.name}", f"Milliseconds a batch by part. {told}.",
        f"Proportions by {sources or 'the engines'}, scaled to the timed batch without the host's share.", figure,
    )  # fmt: skip
