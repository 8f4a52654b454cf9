"""The calibration at a glance: coverage, false verdicts and power against the length of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from output import whole

from cases import Row
from harness.report.figures.canvas import svg_text

# Okabe and Ito's colours, distinguishable without red-green vision; markers say the same once more.
STYLE = {
    "white": ("white", "#0072B2", "o"),
    "ar0.6": ("AR(1) 0.6", "#E69F00", "s"),
    "ar0.9": ("AR(1) 0.9", "#D55E00", "^"),
    "drift": ("common drift", "#009E73", "D"),
    "masked": ("slow under white", "#CC79A7", "v"),
}
INK = "#333333"


def draw(rows: list[Row], folder: Path) -> None:
    """Write calibration.svg into the folder."""
    plt.rcParams.update({"font.size": 9})
    main = [row for row in rows if row.sd == 0.1 and row.restarts == 1 and row.noise in STYLE]
    fig, (coverage, false, power) = plt.subplots(1, 3, figsize=(12, 4.0), layout="constrained")

    coverage.axhspan(93, 97, color="0.9", zorder=0)
    _lines(coverage, [row for row in main if row.factor == 1.0], "coverage")
    _lines(coverage, [row for row in main if row.factor == 1.0], "plain_t_coverage", dashed=True)
    coverage.set(title="Coverage of the 95% interval", ylabel="% of quartets", ylim=(20, 102))

    _lines(false, [row for row in main if row.factor == 1.0], "false")
    _lines(false, [row for row in main if row.factor == 1.0], "plain_t_false", dashed=True)
    _lines(false, [row for row in main if row.factor == 1.0 and row.noise == "white"], "coursework_false", recipe=True)
    false.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    false.set(title="False verdicts, true factor 1", ylim=(0, 100))
    false.set_yscale("symlog", linthresh=1)
    false.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    false.minorticks_off()

    _lines(power, [row for row in main if row.factor == 1.3], "recognised")
    power.axhline(95, color=INK, linewidth=0.8, linestyle=":")
    power.set(title="True factor 1.3 recognised", ylim=(-2, 102))

    for axes in (coverage, false, power):
        axes.set_xscale("log")
        lengths = [10, 15, 25, 40, 60, 100, 200]
        axes.set_xticks(lengths, [str(length) for length in lengths])
        axes.minorticks_off()
        axes.set_xlabel("blocks")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.93", zorder=0)
    handles, labels = power.get_legend_handles_labels()
    styles: tuple[tuple[str, Any], ...] = (
        ("this estimator", "-"),
        ("plain t interval", "--"),
        ("the usual recipe, white noise", "-."),
    )
    for label, style in styles:
        handles.append(plt.Line2D([], [], color=INK, linestyle=style))
        labels.append(label)
    fig.legend(handles, labels, loc="outside lower center", ncols=8, frameon=False)
    fig.suptitle("Simulated quartets with sd(L) = 0.1: what a verdict is worth", fontsize=11)
    with whole(folder / "calibration.svg") as temporary:
        temporary.write_text(svg_text(fig))
    plt.close(fig)


def _lines(axes: Axes, rows: list[Row], column: str, dashed: bool = False, recipe: bool = False) -> None:
    for noise, (title, colour, marker) in STYLE.items():
        points = sorted((row.blocks, getattr(row, column)) for row in rows if row.noise == noise)
        if not points:
            continue
        x, y = zip(*points, strict=True)
        if recipe:
            axes.plot(x, y, color=INK, linestyle="-.", linewidth=1.5)
        elif dashed:
            axes.plot(x, y, color=colour, linestyle="--", linewidth=1, alpha=0.8)
        else:
            axes.plot(x, y, color=colour, marker=marker, markersize=4.5, linewidth=1.8, label=title)
