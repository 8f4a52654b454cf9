"""The picture of one quartet: gains beside what their product promised, and the factor with its interval."""

from __future__ import annotations

from pathlib import Path

from harness.results.analyse import Analysis

# Okabe and Ito's palette, told apart by the colour-blind too
ARCH, HW, EXPECTED, COMBINED, BAND = "#E69F00", "#56B4E9", "#BBBBBB", "#009E73", "#F0E442"


def draw_quartet(analysis: Analysis, label: str, path: Path) -> None:
    """Write a PNG with the gains on the primary boundary and the factor on every boundary."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = analysis.interactions[analysis.primary]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    gains = found.gains
    names = ("arch", "hw", "expected", "combined")
    values = (gains.arch, gains.hw, gains.expected, gains.combined)
    bars = left.bar(names, values, color=(ARCH, HW, EXPECTED, COMBINED), edgecolor="black", linewidth=0.6)
    left.bar_label(bars, labels=[f"{value:.2f}x" for value in values], padding=2)
    left.axhline(1, color="black", linewidth=0.6)
    left.margins(y=0.15)
    left.set_ylabel(f"gain over the baseline ({analysis.primary})")
    left.set_title(label, fontsize="medium")

    right.axvspan(1 - found.margin, 1 + found.margin, color=BAND, alpha=0.35, label="counts as a product")
    for row, one in enumerate(analysis.interactions.values()):
        error = [[one.factor - one.low], [one.high - one.factor]]
        right.errorbar(one.factor, row, xerr=error, fmt="o", color=COMBINED, capsize=4)
    right.axvline(1, color="black", linewidth=0.6)
    right.set_yticks(range(len(analysis.interactions)), list(analysis.interactions))
    right.set_ylim(-0.6, len(analysis.interactions) - 0.4)
    right.set_xlabel(f"factor, {found.level:.0%} interval")
    right.set_title(str(found.verdict), fontsize="medium")
    right.legend(fontsize="small", loc="upper right", frameon=False)
    figure.savefig(path, dpi=120)
