"""One quartet: its four bars, the distribution of its cells' latencies, and their time by part of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas

from harness.engines.profiling import SPANNING, UNKNOWN
from harness.report.figures.canvas import COLOURS, FAINT, GROUND, INK, Picture, canvas, logarithmic, plain
from harness.report.quartets import QuartetRow
from harness.results.figures import four_bars
from harness.results.headline import BAR_NAMES, GAINS, Headline
from harness.stats.roles import ROLES
from harness.system.counts import counted


def draw_headline(headline: Headline) -> Picture:
    """Draw the headline of a study: four bars, with the gap between expected and together."""
    with canvas(2.9) as (figure, axes):
        four_bars(axes, headline, edge=INK, ground=GROUND)
        axes.set_ylabel("gain over the baseline")
    return Picture(
        "headline", headline.sentence,
        f"{headline.sentence}. " + ", ".join(
            f"{BAR_NAMES[name]} {headline.in_words(getattr(headline.gains, name))}" for name in GAINS
        ) + f"; factor {headline.factor_in_words}.",
        f"Expected: architecture x hardware. Factor: together / expected, {headline.factor_in_words}.", figure,
    )  # fmt: skip


_POINTS = 200  # of a curve: quantiles, evenly spaced
_LINES = dict(zip(ROLES, ("-", "--", "-.", ":"), strict=True))


def draw_latency(quartet: QuartetRow, samples: pandas.DataFrame | None, number: int) -> Picture | None:
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
    listed = "; ".join(f"{role}: {counted(values.size, 'iteration')}, median {np.median(values):.3g} ms, 5% to 95% "
                     f"{np.quantile(values, 0.05):.3g} to {np.quantile(values, 0.95):.3g} ms"
                     for role, values in cells.items())  # fmt: skip
    return Picture(
        f"latency{number}", f"Latency: {quartet.name}", f"Latency of a batch, {boundary}. {listed}.",
        f"{counted(sum(values.size for values in cells.values()), 'iteration')} of the cells, in turns.", figure,
    )  # fmt: skip


_HATCHES = {SPANNING: "xxx", UNKNOWN: "|||"}


def draw_stages(quartet: QuartetRow, why: Mapping[str, Any], number: int) -> Picture | None:
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
    listed = "; ".join(
        f"{name}: " + ", ".join(f"{role} {times[role]:.3g} ms" for role in ROLES) for name, times in parts.items()
    )
    sources = ", ".join(dict.fromkeys(str(profile["source"]) for profile in (why.get("profiles") or {}).values()))
    return Picture(
        f"stages{number}", f"Time by part of the network: {quartet.name}", f"Milliseconds a batch by part. {listed}.",
        f"Proportions by {sources or 'the engines'}, scaled to the timed batch without the host's share.", figure,
    )  # fmt: skip
