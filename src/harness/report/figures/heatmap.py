"""The matrix of factors as a heatmap: colour by ln(factor), the number with its interval, a frame if decided."""

from __future__ import annotations

import math

from harness.report.figures.canvas import INK, WIDTH_IN, Picture, canvas, shortened
from harness.report.matrix import Matrix
from harness.report.quartets import QuartetRow

MOST_PLACES = 240  # more can't be read; the page's table has them
_FULL_COLOUR = math.log(1.5)  # a factor of 1.5 or 1 / 1.5, and beyond


def draw_heatmap(matrix: Matrix, number: int) -> Picture | None:
    """Draw one setting's matrix; None where there is nothing in it or too much to be read."""
    found = [one for ones in matrix.places.values() for one in ones if one.factor]
    if not found or len(matrix.archs) * len(matrix.hws) > MOST_PLACES:
        return None
    from matplotlib import colormaps

    colours = colormaps["PuOr"]  # told apart by the colour-blind; orange: conflict, violet: amplify
    rows, columns = len(matrix.archs), len(matrix.hws)
    with canvas(1.0 + 0.62 * rows) as (figure, axes):
        figure.set_figwidth(max(WIDTH_IN, 1.5 + 1.45 * columns))
        for y, arch in enumerate(matrix.archs):
            for x, hw in enumerate(matrix.hws):
                log_factor = matrix.log_factor((arch, hw))
                ones = [one for one in matrix.places.get((arch, hw), ()) if one.factor]
                share = 0.5 if log_factor is None else 0.5 + max(-0.5, min(0.5, log_factor / _FULL_COLOUR / 2))
                colour = colours(0.1 + 0.8 * share) if ones else "none"
                decided = any(one.stands in ("amplify", "conflict") for one in ones)
                axes.add_patch(_square(x, y, colour, decided))
                ink = ("white" if abs(share - 0.5) > 0.35 else "black") if ones else INK
                axes.text(x, y, _words(ones), ha="center", va="center", fontsize=9, color=ink, linespacing=1.3)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
        axes.set_xticks(range(columns), [shortened(hw, 24) for hw in matrix.hws])
        axes.set_yticks(range(rows), [shortened(arch, 24) for arch in matrix.archs])
        axes.tick_params(length=0)
        axes.xaxis.tick_top()
        for spine in axes.spines.values():
            spine.set_visible(False)
    told = "; ".join(
        f"{one.arch_label} x {one.hw_label} {one.factor.value:.3f} [{one.factor.low:.3f}, {one.factor.high:.3f}] "
        f"{one.stands}"
        for one in found
        if one.factor
    )
    return Picture(
        f"heatmap{number}",
        f"Interaction factors: {matrix.label}",
        f"Interaction factors, architecture by hardware. {told}.",
        "Orange: less than the product; violet: more; a frame: established beside all other quartets.",
        figure,
    )


def _square(x: int, y: int, colour: object, decided: bool) -> object:
    from matplotlib.patches import Rectangle

    size, edge = (0.92, 2.0) if decided else (0.96, 0.0)
    return Rectangle((x - size / 2, y - size / 2), size, size, facecolor=colour, edgecolor=INK, linewidth=edge)


def _words(ones: list[QuartetRow]) -> str:
    """Return what stands in a place: the one factor, or the range of the repeated ones."""
    if not ones:
        return "no factor"
    factors = [one.factor for one in ones if one.factor]
    if len(factors) == 1:
        (one,) = factors
        return f"{one.value:.3f}\n[{one.low:.3f}, {one.high:.3f}]\n{ones[0].stands}"
    values = [one.value for one in factors]
    return f"{len(values)} quartets\n{min(values):.3f} to {max(values):.3f}"
