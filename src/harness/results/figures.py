"""The pictures of a quartet: gains beside their product, the factor with its interval; under load, latency by rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.results.analyse import Analysis
from harness.results.headline import BAR_NAMES, GAINS, Headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


# Okabe and Ito's palette: the colour-blind can distinguish it too
ARCH, HW, EXPECTED, COMBINED, BAND = "#E69F00", "#56B4E9", "#BBBBBB", "#009E73", "#F0E442"


_NEAR = 0.09  # of an axis: a tick this near to 1 gives way to it


def tick_at_one(axis: Axis) -> None:
    """Give an axis of ratios a tick at 1, where gains and factors begin to mean something; call it last."""
    from matplotlib.ticker import FixedLocator

    low, high = sorted(axis.get_view_interval())
    if not low <= 1 <= high:
        return
    transform = axis.get_transform().transform
    first, last, unity = (float(transform(value)) for value in (low, high, 1.0))
    ticks = [float(tick) for tick in axis.get_majorticklocs() if low <= tick <= high]
    far = [tick for tick in ticks if abs(float(transform(tick)) - unity) > _NEAR * (last - first)]
    axis.set_major_locator(FixedLocator(sorted([*far, 1.0])))


RANGE = (1 / 3, 3.0)  # an arrow where an interval leaves it


def four_bars(axes: Axes, headline: Headline, edge: str = "black", ground: str = "white") -> None:
    """Draw arch, hw, expected and together, from 0, with the gap between the last two marked by the factor.

    `edge` and `ground` are the colours of outlines and of what lies under a number.
    """
    values = [getattr(headline.gains, name) for name in GAINS]
    bars = axes.bar(
        range(4), values, 0.72, color=(ARCH, HW, EXPECTED, COMBINED), edgecolor=edge, linewidth=0.6,
        hatch=("", "", "///", ""),
    )  # fmt: skip
    axes.bar_label(bars, labels=[headline.in_words(value) for value in values], padding=2,
                   bbox={"facecolor": ground, "edgecolor": "none", "pad": 0.5})  # fmt: skip
    expected, together = values[2:]
    side = 3 + 0.72 / 2 + 0.1  # the gap stands beside the last bar
    axes.plot([2, side + 0.12], [expected, expected], "--", color=edge, linewidth=0.8)
    axes.plot([3, side + 0.12], [together, together], "--", color=edge, linewidth=0.8)
    axes.plot([side, side], [expected, together], color=edge, linewidth=2.5, solid_capstyle="butt")
    axes.text(side + 0.16, (expected + together) / 2, f"factor\n{headline.factor:.3f}", va="center", fontsize="small")
    axes.axhline(1, color=edge, linewidth=0.6, zorder=0)
    what = {"arch": headline.arch, "hw": headline.hw, "expected": "the product", "combined": "measured"}
    axes.set_xticks(range(4), [f"{BAR_NAMES[name]}\n{_folded(what[name])}" for name in GAINS])
    axes.set_xlim(-0.55, side + 0.75)
    axes.margins(y=0.15)
    tick_at_one(axes.yaxis)


def _folded(stack: str) -> str:
    """Return a stack of techniques with a line for each, which fits below a bar."""
    return "\n+ ".join(name.strip() for name in stack.split("+"))


_LINE_PX, _WIDE_PX, _PX_PER_INCH = 12.5, 600, 100


def draw_lines(headline: Headline, path: Path) -> None:
    """Write a PNG with the four bars lying, each as high as a line of text: what fits into a description in MLflow.

    Its page takes a picture's size as it is and folds a description that is higher than 100 pixels: a sentence of two
    lines and this are 99.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDE_PX / _PX_PER_INCH, len(GAINS) * _LINE_PX / _PX_PER_INCH))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.15, 0, 0.5, 1))
    values = [getattr(headline.gains, name) for name in GAINS]
    axes.barh(
        range(4), values, 0.8, color=(ARCH, HW, EXPECTED, COMBINED), edgecolor="black", linewidth=0.6,
        hatch=("", "", "///", ""),
    )  # fmt: skip
    axes.axvline(values[2], color="black", linestyle="--", linewidth=0.8)
    for row, (name, value) in enumerate(zip(GAINS, values, strict=True)):
        said = headline.in_words(value) + (f"   factor {headline.factor_in_words}" if name == "combined" else "")
        axes.annotate(BAR_NAMES[name], (0, row), (-5, 0), textcoords="offset points", ha="right", va="center")
        axes.annotate(said, (max(value, values[2]), row), (5, 0), textcoords="offset points", va="center")
    axes.set(xlim=(0, 1.01 * max(values)), ylim=(3.5, -0.5))
    axes.axis("off")
    for text in axes.texts:
        text.set_fontsize(0.8 * _LINE_PX * 72 / _PX_PER_INCH)
    figure.savefig(path, dpi=_PX_PER_INCH)


def draw_quartet(analysis: Analysis, headline: Headline, label: str, path: Path) -> None:
    """Write a PNG with the gains on the primary boundary and the factor on every boundary."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = analysis.interactions[analysis.primary]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    four_bars(left, headline)
    left.set_ylabel(f"gain over the baseline ({analysis.primary})")
    left.set_title(label, fontsize="medium")

    right.axvspan(1 - found.margin, 1 + found.margin, color=BAND, alpha=0.35, label="counts as a product")
    for row, interaction in enumerate(analysis.interactions.values()):
        value, low, high = (
            min(max(end, RANGE[0]), RANGE[1]) for end in (interaction.factor, interaction.low, interaction.high)
        )
        right.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", color=COMBINED, capsize=4)
        for end, mark in ((interaction.low < RANGE[0], "<"), (interaction.high > RANGE[1], ">")):
            if end:
                right.plot(RANGE[mark == ">"], row, mark, color=COMBINED)
    right.axvline(1, color="black", linewidth=0.6)
    right.set_yticks(range(len(analysis.interactions)), list(analysis.interactions))
    tick_at_one(right.xaxis)
    right.set_ylim(-0.6, len(analysis.interactions) - 0.4)
    right.set_xlabel(f"factor, {found.level:.0%} interval")
    right.set_title(str(found.verdict), fontsize="medium")
    right.legend(fontsize="small", loc="upper right", frameon=False)
    figure.savefig(path, dpi=120)


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
        points = [point for point in cell["points"] if point["latency_ms"] is not None]
        drawn += len(points)
        colour, rate = COLOURS[role], cell["at_slo_per_s"]
        for valid in (True, False):
            shown = [point for point in points if point["valid"] == valid]
            axes.plot(
                [point["rate_per_s"] for point in shown],
                [point["latency_ms"] for point in shown],
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
