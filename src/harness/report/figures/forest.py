"""Every quartet's factor with its interval, beside the margin within which gains count as multiplying."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.figures.canvas import COLOURS, FAINT, INK, MARKERS, SERIES, Picture, canvas, logarithmic, shortened
from harness.report.quartets import QuartetRow

MOST = 40  # quartets
RANGE = (1 / 3, 3.0)  # an arrow where an interval leaves it
_LOOKS = {"amplify": (SERIES[3], MARKERS[3]), "conflict": (COLOURS["arch"], MARKERS[1]),
          "independent": (COLOURS["combined"], MARKERS[0]), "inconclusive": (FAINT, MARKERS[2])}  # fmt: skip


def draw_forest(quartets: Sequence[QuartetRow]) -> Picture | None:
    """Draw all factors of a study, one row each; of many, those farthest from 1."""
    found = [one for one in quartets if one.factor]
    if not found:
        return None
    farthest = sorted(found, key=lambda one: -abs(math.log(one.factor.value)) if one.factor else 0.0)[:MOST]
    shown = [one for one in found if one in farthest]
    margin = float(shown[0].row.get("protocol.margin") or 0.05)
    with canvas(0.9 + 0.24 * len(shown)) as (figure, axes):
        axes.axvspan(1 - margin, 1 + margin, color=FAINT, alpha=0.25, linewidth=0, label="counts as a product")
        axes.axvline(1, color=INK, linewidth=0.8)
        seen: set[str] = set()
        for row, one in enumerate(shown):
            colour, marker = _LOOKS.get(one.stands, (FAINT, "o"))
            assert one.factor is not None
            value, low, high = (min(max(each, RANGE[0]), RANGE[1])
                                for each in (one.factor.value, one.factor.low, one.factor.high))  # fmt: skip
            axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            label = None if one.stands in seen else one.stands
            axes.plot(value, row, marker, color=colour, markeredgecolor=INK, markeredgewidth=0.5, linestyle="",
                      label=label)  # fmt: skip
            seen.add(one.stands)
            if one.factor.low < RANGE[0]:
                axes.plot(RANGE[0], row, "<", color=colour)
            if one.factor.high > RANGE[1]:
                axes.plot(RANGE[1], row, ">", color=colour)
        axes.set_yticks(range(len(shown)), [shortened(one.name, 34) for one in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.set_xlabel("interaction factor (log)")
        logarithmic(axes, "x")
        axes.grid(True, axis="x")
        figure.legend(loc="outside lower center", ncols=2)
    told = "; ".join(f"{one.name} {one.factor.value:.3f} [{one.factor.low:.3f}, {one.factor.high:.3f}] {one.stands}"
                     for one in shown if one.factor)  # fmt: skip
    beyond = any(one.factor.low < RANGE[0] or one.factor.high > RANGE[1] for one in shown if one.factor)
    arrow = f" An arrow: the interval goes beyond {RANGE[0]:.2g} or {RANGE[1]:g}." if beyond else ""
    cut = "" if len(shown) == len(found) else f" Of {len(found)} quartets, the {MOST} farthest from 1."
    return Picture(
        "factors", "Factors with their intervals", f"Interaction factors. {told}.",
        f"A verdict is about the whole interval, adjusted for all quartets (Holm).{arrow}{cut}", figure,
    )  # fmt: skip
