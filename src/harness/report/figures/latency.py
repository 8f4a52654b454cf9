"""Latency of one quartet's cells: how it is distributed, and the share of iterations below each value (ECDF)."""

from __future__ import annotations

import numpy as np
import pandas

from harness.report.figures.canvas import COLOURS, INK, Picture, canvas, logarithmic, plain
from harness.report.quartets import QuartetRow
from harness.stats.roles import ROLES

_POINTS = 200  # of a curve: quantiles, evenly spaced
_LINES = dict(zip(ROLES, ("-", "--", "-.", ":"), strict=True))


def draw_latency(one: QuartetRow, samples: pandas.DataFrame | None, number: int) -> Picture | None:
    """Draw what one quartet's iterations took on the wall clock, or on its primary boundary where there is no wall."""
    if samples is None or not len(samples):
        return None
    boundary = "wall" if (samples["boundary"] == "wall").any() else str(samples["boundary"].iloc[0])
    timed = samples[samples["boundary"] == boundary]
    cells = {role: np.sort(timed.loc[timed["cell"] == role, "milliseconds"].to_numpy(dtype=float)) for role in ROLES}
    cells = {role: values for role, values in cells.items() if values.size}
    if not cells:
        return None
    shares = np.linspace(0, 1, _POINTS)
    with canvas(2.9, columns=2, width_ratios=(2, 3)) as (figure, (left, right)):
        for row, (role, values) in enumerate(cells.items()):
            left.boxplot(
                values, positions=[row], orientation="horizontal", widths=0.6, whis=(5, 95), showfliers=False,
                patch_artist=True, boxprops={"facecolor": COLOURS[role], "edgecolor": INK, "linewidth": 0.6},
                medianprops={"color": "black"}, whiskerprops={"color": INK}, capprops={"color": INK},
            )  # fmt: skip
            right.plot(np.quantile(values, shares), shares, _LINES[role], color=COLOURS[role], linewidth=2, label=role)
        boundary = plain(boundary)
        left.set_yticks(range(len(cells)), list(cells))
        left.invert_yaxis()
        left.set_xlabel(f"ms, {boundary}")
        left.set_title("quartiles, 5% to 95%")
        right.set_title("share of iterations below")
        right.set_xlabel(f"ms, {boundary} (log)")
        logarithmic(right, "x")
        right.grid(True)
        figure.legend(loc="outside lower center", ncols=4)
    told = "; ".join(f"{role}: {values.size} iterations, median {np.median(values):.3g} ms, 5% to 95% "
                     f"{np.quantile(values, 0.05):.3g} to {np.quantile(values, 0.95):.3g} ms"
                     for role, values in cells.items())  # fmt: skip
    return Picture(
        f"latency{number}", f"Latency: {one.name}", f"Latency of a batch, {boundary}. {told}.",
        f"{sum(values.size for values in cells.values())} iterations of the four cells, in turns.", figure,
    )  # fmt: skip
