"""Factors and gains of all quartets: heatmap of the matrix, factors with intervals, gains beside their product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.report.figures.canvas import (
    COLOURS,
    FAINT,
    GROUND,
    INK,
    MARKERS,
    SERIES,
    WIDTH_IN,
    Picture,
    canvas,
    logarithmic,
    shortened,
)
from harness.report.findings import Matrix
from harness.report.quartets import QuartetRow, interval
from harness.results.figures import RANGE, tick_at_one

MOST_PLACES = 240  # more can't be read; the page's table has them
_HALF_COLOUR = math.log(2)  # a factor of 2 or 1/2 has three quarters of the colour, and none has all of it
_DECIDED = ("amplify", "conflict", "independent")


def draw_heatmap(matrix: Matrix, number: int) -> Picture | None:
    """Draw one setting's matrix; None where there is nothing in it or too much to be read."""
    found = [quartet for members in matrix.places.values() for quartet in members if quartet.factor]
    if not found or len(matrix.archs) * len(matrix.hws) > MOST_PLACES:
        return None
    from matplotlib import colormaps

    colours = colormaps["PuOr"]  # the colour-blind can distinguish it; orange: conflict, violet: amplify
    rows, columns = len(matrix.archs), len(matrix.hws)
    with canvas(1.0 + 0.62 * rows) as (figure, axes):
        figure.set_figwidth(max(WIDTH_IN, 1.5 + 1.45 * columns))
        for y, arch in enumerate(matrix.archs):
            for x, hw in enumerate(matrix.hws):
                log_factor = matrix.log_factor((arch, hw))
                members = [quartet for quartet in matrix.places.get((arch, hw), ()) if quartet.factor]
                share = 0.0 if log_factor is None else colour_share(log_factor)
                decided = bool(members) and all(quartet.verdict_adjusted in _DECIDED for quartet in members)
                axes.add_patch(_square(x, y, colours(0.5 + 0.4 * share) if decided else "none", members, decided))
                ink = ("white" if abs(share) > 0.7 else "black") if decided else INK
                words = axes.text(x, y, _words(members), ha="center", va="center", fontsize=9, color=ink)
                words.set(linespacing=1.3, bbox=None if decided or not members else _ON_HATCHES)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
        axes.set_xticks(range(columns), [_in_two_lines(hw) for hw in matrix.hws])
        axes.set_yticks(range(rows), [shortened(arch, 24) for arch in matrix.archs])
        axes.tick_params(length=0)
        axes.xaxis.tick_top()
        for spine in axes.spines.values():
            spine.set_visible(False)
    listed = "; ".join(
        f"{quartet.arch_label} x {quartet.hw_label} {interval(quartet.factor)} {quartet.verdict_adjusted}"
        for quartet in found
        if quartet.factor
    )
    return Picture(
        f"heatmap{number}",
        f"Interaction factors: {matrix.label}",
        f"Interaction factors, architecture by hardware. {listed}.",
        "Orange: less than the product; violet: more; framed where that is established beside all other quartets. "
        "Hatched, without a colour: not decided.",
        figure,
    )


def _in_two_lines(hw: str) -> str:
    """Return a hw stack's label, an engine that belongs to it on a line of its own."""
    engine, plus, techniques = hw.partition(" + ")
    return f"{engine} +\n{shortened(techniques, 24)}" if plus else shortened(hw, 24)


def colour_share(log_factor: float) -> float:
    """Return how much of the colour a factor gets, from -1 (orange, conflict) to 1 (violet): it never saturates."""
    return math.tanh(log_factor / _HALF_COLOUR)


_ON_HATCHES: Any = {"facecolor": GROUND, "edgecolor": "none", "pad": 2}  # under words


def _square(x: int, y: int, colour: object, members: Sequence[QuartetRow], decided: bool) -> object:
    """Return a place: coloured where its verdicts are decided, framed where not of a product; else hatched."""
    from matplotlib.patches import Rectangle

    departs = decided and all(quartet.verdict_adjusted in ("amplify", "conflict") for quartet in members)
    size = 0.92 if departs else 0.96
    square = Rectangle((x - size / 2, y - size / 2), size, size, facecolor=colour, edgecolor=INK, linewidth=2 * departs)
    if members and not decided:
        square.set(hatch="///", edgecolor=FAINT, linewidth=0)
    return square


def _words(members: list[QuartetRow]) -> str:
    """Return the text of a place: its factor, or the range of factors where it was repeated."""
    if not members:
        return "no factor"
    factors = [quartet.factor for quartet in members if quartet.factor]
    if len(factors) == 1:
        factor, limits = interval(factors[0]).split(" ", 1)
        return f"{factor}\n{limits}\n{members[0].verdict_adjusted}"
    values = [factor.value for factor in factors]
    return f"{len(values)} quartets\n{min(values):.3f} to {max(values):.3f}"


MOST_FACTORS = 40  # quartets
MOST_FOLDED = 20  # quartets whose names may take two lines each
_LONG = 32  # characters of a name
_LOOKS = {"amplify": (SERIES[3], MARKERS[3]), "conflict": (COLOURS["arch"], MARKERS[1]),
          "independent": (COLOURS["combined"], MARKERS[0]), "inconclusive": (FAINT, MARKERS[2])}  # fmt: skip


def draw_forest(quartets: Sequence[QuartetRow], correction: str) -> Picture | None:
    """Draw all factors of a study, one row each; of many, those farthest from 1. `correction`: of the verdicts."""
    found = [quartet for quartet in quartets if quartet.factor]
    if not found:
        return None
    farthest = sorted(found, key=lambda quartet: -abs(math.log(quartet.factor.value)) if quartet.factor else 0.0)[
        :MOST_FACTORS
    ]
    shown = [quartet for quartet in found if quartet in farthest]
    margin = float(shown[0].row.get("protocol.margin") or 0.05)
    folded = len(shown) <= MOST_FOLDED and any(len(quartet.name) > _LONG for quartet in shown)
    with canvas(0.9 + (0.36 if folded else 0.24) * len(shown)) as (figure, axes):
        axes.axvspan(1 - margin, 1 + margin, color=FAINT, alpha=0.25, linewidth=0, label="counts as a product")
        axes.axvline(1, color=INK, linewidth=0.8)
        seen: set[str] = set()
        for row, quartet in enumerate(shown):
            colour, marker = _LOOKS.get(quartet.verdict_adjusted, (FAINT, "o"))
            assert quartet.factor is not None
            ends = (quartet.factor.value, quartet.factor.low, quartet.factor.high)
            value, low, high = (min(max(each, RANGE[0]), RANGE[1]) for each in ends)
            axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            label = None if quartet.verdict_adjusted in seen else quartet.verdict_adjusted
            axes.plot(value, row, marker, color=colour, markeredgecolor=INK, markeredgewidth=0.5, linestyle="",
                      label=label)  # fmt: skip
            seen.add(quartet.verdict_adjusted)
            if quartet.factor.low < RANGE[0]:
                axes.plot(RANGE[0], row, "<", color=colour)
            if quartet.factor.high > RANGE[1]:
                axes.plot(RANGE[1], row, ">", color=colour)
        axes.set_yticks(range(len(shown)), [_name(quartet, folded) for quartet in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.set_xlabel("interaction factor (log)")
        logarithmic(axes, "x")
        tick_at_one(axes.xaxis)
        axes.grid(True, axis="x")
        figure.legend(loc="outside lower center", ncols=2)
    factors = [(quartet, quartet.factor) for quartet in shown if quartet.factor]
    listed = "; ".join(f"{quartet.name} {interval(factor)} {quartet.verdict_adjusted}" for quartet, factor in factors)
    beyond = any(factor.low < RANGE[0] or factor.high > RANGE[1] for _, factor in factors)
    arrow = f" An arrow: the interval goes beyond {RANGE[0]:.2g} or {RANGE[1]:g}." if beyond else ""
    cut = "" if len(shown) == len(found) else f" Of {len(found)} quartets, the {MOST_FACTORS} farthest from 1."
    return Picture(
        "factors", "Factors with their intervals", f"Interaction factors. {listed}.",
        f"A verdict is about the whole interval, adjusted for all quartets ({correction}).{arrow}{cut}", figure,
    )  # fmt: skip


def _name(quartet: QuartetRow, folded: bool) -> str:
    """Return a quartet's name, in two lines where the names of its figure are folded."""
    arch, sign, hw = quartet.name.partition(" x ")
    if not (folded and sign):
        return shortened(quartet.name, 40)
    return f"{shortened(arch, 34)} x\n{shortened(hw, 36)}"


MOST_GAINS = 20  # quartets


def draw_gains(quartets: Sequence[QuartetRow]) -> Picture | None:
    """Draw the quartets with a factor; of many, those that depart most from a product."""
    found = [
        quartet
        for quartet in quartets
        if quartet.factor and {"arch", "hw", "combined", "expected"} <= set(quartet.gains)
    ]
    if not found:
        return None
    departing = sorted(found, key=lambda quartet: -abs(math.log(quartet.factor.value)) if quartet.factor else 0.0)[
        :MOST_GAINS
    ]
    shown = [quartet for quartet in found if quartet in departing]
    with canvas(0.9 + 0.7 * len(shown)) as (figure, axes):
        for row, quartet in enumerate(shown):
            for place, name in enumerate(("arch", "hw", "expected", "combined")):
                bar = axes.barh(
                    row + (place - 1.5) * 0.2, quartet.gains[name], 0.19, color=COLOURS[name], edgecolor=INK,
                    linewidth=0.4, hatch="////" if name == "expected" else "",
                    label=_NAMES[name] if row == 0 else None,
                )  # fmt: skip
                # lower than its bar is high, or it would cover the next one
                axes.bar_label(bar, [f"{quartet.gains[name]:.2f}x"], padding=2, fontsize=7)
        axes.axvline(1, color=FAINT, linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(shown)), [_label(quartet, shown) for quartet in shown])
        axes.invert_yaxis()
        axes.margins(x=0.14, y=0.01)
        axes.set_xlabel("gain over the baseline")
        tick_at_one(axes.xaxis)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper center", ncols=2)
    listed = "; ".join(
        f"{quartet.name}: {quartet.gains['combined']:.2f}x measured, {quartet.gains['expected']:.2f}x expected"
        for quartet in shown
    )
    more = f" Of {len(found)} quartets, the {MOST_GAINS} that depart most from a product."
    cut = "" if len(shown) == len(found) else more
    return Picture(
        "gains",
        "Gains: expected against actual",
        f"Gains over the baseline. {listed}.",
        "Hatched: what the two gains multiply to. Below it, what both gave together." + cut,
        figure,
    )


_NAMES = {"arch": "architecture alone", "hw": "hardware alone", "expected": "expected", "combined": "measured together"}


def _label(quartet: QuartetRow, shown: Sequence[QuartetRow]) -> str:
    batch = dict(quartet.setting).get("batch_size", "?")
    engines = {dict(row.setting).get("engine") for row in shown}
    is_open = len(engines) > 1 and not quartet.contains_engine
    engine = f", {dict(quartet.setting).get('engine')}" if is_open else ""
    return f"{shortened(quartet.arch_label, 24)} x\n{shortened(quartet.hw_label, 30)}, b{batch}{engine}"
