"""What changed between two studies, with intervals: the throughput of each cell, the factor of each quartet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.compare import Comparison, is_changed
from harness.report.figures.canvas import COLOURS, FAINT, INK, MARKERS, SERIES, Picture, canvas, logarithmic, shortened
from harness.report.quartets import interval
from harness.stats.factorial import Ratio

MOST_CHANGES = 40  # rows
RANGE = (1 / 3, 3.0)  # an arrow where an interval leaves it


def draw_changes(found: Comparison) -> tuple[Picture, ...]:
    """Draw the changes of a comparison: none of what could not be compared."""
    cells = [(cell.label, cell.ratio) for cell in found.cells if cell.ratio is not None]
    factors = [(factor.label, factor.ratio) for factor in found.factors]
    together = f"{found.level:.0%} intervals for all cells together (Bonferroni)"
    drawn = (
        _draw("throughputs", "Throughput, after / before", cells, f"{together}. Below 1: slower."),
        _draw("changed_factors", "Interaction factors, after / before", factors, "Each by its own interval."),
    )
    return tuple(picture for picture in drawn if picture is not None)


def _draw(name: str, title: str, rows: Sequence[tuple[str, Ratio]], caption: str) -> Picture | None:
    """Draw ratios, one row each; of many, those farthest from 1."""
    if not rows:
        return None
    farthest = sorted(rows, key=lambda row: -abs(math.log(row[1].value)))[:MOST_CHANGES]
    shown = [row for row in rows if row in farthest]
    with canvas(0.9 + 0.24 * len(shown)) as (figure, axes):
        axes.axvline(1, color=INK, linewidth=0.8)
        seen: set[str] = set()
        for place, (_, ratio) in enumerate(shown):
            said, colour, marker = _look(ratio)
            value, low, high = (min(max(each, RANGE[0]), RANGE[1]) for each in (ratio.value, ratio.low, ratio.high))
            axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            label = None if said in seen else said
            axes.plot(value, place, marker, color=colour, markeredgecolor=INK, markeredgewidth=0.5, linestyle="",
                      label=label)  # fmt: skip
            seen.add(said)
            if ratio.low < RANGE[0]:
                axes.plot(RANGE[0], place, "<", color=colour)
            if ratio.high > RANGE[1]:
                axes.plot(RANGE[1], place, ">", color=colour)
        axes.set_yticks(range(len(shown)), [shortened(label, 40) for label, _ in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.set_xlabel("after / before (log)")
        logarithmic(axes, "x")
        axes.grid(True, axis="x")
        figure.legend(loc="outside lower center", ncols=3)
    listed = "; ".join(f"{label} {interval(ratio)}" for label, ratio in shown)
    cut = "" if len(shown) == len(rows) else f" Of {len(rows)}, the {MOST_CHANGES} farthest from 1."
    return Picture(name, title, f"{title}. {listed}.", f"{caption}{cut}", figure)


def _look(ratio: Ratio) -> tuple[str, str, str]:
    """Return what a change is called, its colour and its marker."""
    if not is_changed(ratio):
        return "holds 1", FAINT, MARKERS[2]
    return ("above 1", COLOURS["combined"], MARKERS[4]) if ratio.low > 1 else ("below 1", SERIES[5], MARKERS[3])
