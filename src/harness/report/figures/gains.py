"""Gains of every quartet: each side alone, what their product promised, what both gave together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.figures.canvas import COLOURS, GROUND, INK, Picture, canvas, shortened
from harness.report.quartets import QuartetRow

MOST = 20  # quartets


def draw_gains(quartets: Sequence[QuartetRow]) -> Picture | None:
    """Draw the quartets with a factor; of many, those that depart most from a product."""
    found = [one for one in quartets if one.factor and {"arch", "hw", "combined", "expected"} <= set(one.gains)]
    if not found:
        return None
    departing = sorted(found, key=lambda one: -abs(math.log(one.factor.value)) if one.factor else 0.0)[:MOST]
    shown = [one for one in found if one in departing]
    with canvas(0.9 + 0.56 * len(shown)) as (figure, axes):
        for row, one in enumerate(shown):
            for place, name in enumerate(("arch", "hw", "expected", "combined")):
                bar = axes.barh(
                    row + (place - 1.5) * 0.2, one.gains[name], 0.19, color=COLOURS[name], edgecolor=INK, linewidth=0.4,
                    hatch="////" if name == "expected" else "", label=_NAMES[name] if row == 0 else None,
                )  # fmt: skip
                axes.bar_label(bar, [f"{one.gains[name]:.2f}x"], padding=2, fontsize=8,
                               bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 0.5})  # fmt: skip
        axes.axvline(1, color=INK, linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(shown)), [_label(one, shown) for one in shown])
        axes.invert_yaxis()
        axes.margins(x=0.14, y=0.01)
        axes.set_xlabel("gain over the baseline")
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper center", ncols=2)
    told = "; ".join(
        f"{one.name}: {one.gains['combined']:.2f}x measured, {one.gains['expected']:.2f}x expected" for one in shown
    )
    cut = "" if len(shown) == len(found) else f" Of {len(found)} quartets, the {MOST} that depart most from a product."
    return Picture(
        "gains",
        "Gains: expected against actual",
        f"Gains over the baseline. {told}.",
        "Hatched: what the two gains multiply to. Below it, what both gave together." + cut,
        figure,
    )


_NAMES = {"arch": "architecture alone", "hw": "hardware alone", "expected": "expected", "combined": "measured together"}


def _label(one: QuartetRow, shown: Sequence[QuartetRow]) -> str:
    batch = dict(one.setting).get("batch_size", "?")
    engines = {dict(other.setting).get("engine") for other in shown}
    engine = f", {dict(one.setting).get('engine')}" if len(engines) > 1 else ""
    return f"{shortened(one.arch_label, 24)} x\n{shortened(one.hw_label, 24)}, b{batch}{engine}"
