"""The latency-rate curves of a quartet: every measured point, the bound, and the rate at the bound of each cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.results.figure import ARCH, COMBINED, HW

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"baseline": "#000000", "arch": ARCH, "hw": HW, "combined": COMBINED}


def draw_latency_rate(serving: Mapping[str, Any], label: str) -> Figure:
    """Draw latency at the percentile over the rate of the arrivals; hollow points are not valid.

    `serving` is what `serving.json` holds, so that a committed study's figure can be drawn again from its files.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = 0
    for role, cell in serving["cells"].items():
        points = [one for one in cell["points"] if one["latency_ms"] is not None]
        drawn += len(points)
        colour, rate = COLOURS[role], cell["at_slo_per_s"]
        for valid in (True, False):
            shown = [one for one in points if one["valid"] == valid]
            axes.plot(
                [one["rate_per_s"] for one in shown],
                [one["latency_ms"] for one in shown],
                linestyle="none", marker="o", markersize=4, markeredgecolor=colour,
                markerfacecolor=colour if valid else "none",
            )  # fmt: skip
        found = f": {rate:.4g}/s" if rate is not None else ""
        axes.plot([], [], color=colour, marker="o", linestyle="none", label=f"{role}{found}")
        if rate is not None:
            axes.axvline(rate, color=colour, linewidth=0.8, alpha=0.6)
    axes.axhline(serving["slo_ms"], color="black", linestyle="--", linewidth=0.8)
    if drawn:  # where every request was shed there is nothing to draw but the bound
        axes.set(xscale="log", yscale="log")
    axes.set(xlabel="requests/s (Poisson)", ylabel=f"p{serving['percentile']:g} latency, ms")
    axes.set_title(f"{label}; bound {serving['slo_ms']:g} ms", fontsize="medium")
    axes.legend(fontsize="small")
    return figure
