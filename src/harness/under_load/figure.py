"""The latency-rate curves of a quartet: every measured point, the bound, and the rate at the bound of each cell."""

from __future__ import annotations

import math
from pathlib import Path

from harness.config import HarnessConfig
from harness.record.figure import ARCH, COMBINED, HW
from harness.under_load.analysis import geometric_mean, throughputs
from harness.under_load.measure import LoadMeasurement

COLOURS = {"baseline": "#000000", "arch": ARCH, "hw": HW, "combined": COMBINED}


def draw_latency_rate(measurement: LoadMeasurement, config: HarnessConfig, label: str, path: Path) -> None:
    """Write a PNG: latency at the percentile over the rate of the arrivals; hollow points are not valid."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    asked = config.scenario
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for role, cell in measurement.cells.items():
        results = [result for repeat in cell.repeats for result in repeat.results if math.isfinite(result.latency_ms)]
        colour = COLOURS[role]
        for valid in (True, False):
            shown = [result for result in results if result.valid == valid]
            axes.plot(
                [result.arrived_per_s for result in shown],
                [result.latency_ms for result in shown],
                linestyle="none", marker="o", markersize=4, markeredgecolor=colour,
                markerfacecolor=colour if valid else "none",
            )  # fmt: skip
        rates = throughputs(cell)
        found = f": {geometric_mean(rates):.4g}/s" if rates and asked.rate_per_s is None else ""
        axes.plot([], [], color=colour, marker="o", linestyle="none", label=f"{role}{found}")
        if rates and asked.rate_per_s is None:
            axes.axvline(geometric_mean(rates), color=colour, linewidth=0.8, alpha=0.6)
    axes.axhline(asked.slo_ms, color="black", linestyle="--", linewidth=0.8)
    finite = any(
        math.isfinite(r.latency_ms) for c in measurement.cells.values() for one in c.repeats for r in one.results
    )
    if finite:  # where every request was shed there is nothing to draw but the bound
        axes.set(xscale="log", yscale="log")
    axes.set(xlabel="requests/s (Poisson)", ylabel=f"p{asked.percentile:g} latency, ms")
    axes.set_title(f"{label}; bound {asked.slo_ms:g} ms", fontsize="medium")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
