"""Eight builds of one cell at a glance, each visit by build and process; and every cell that was built several times.

python experiments/rebuilds/figure.py      # from the folders beside this file, writes builds.svg and cells.svg there
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas

from harness.report.figures.canvas import svg_text
from spread import visits_by_cell

HERE = Path(__file__).parent
CELLS = {"tensorrt": "TensorRT, fusion (fp32, level 3)", "inductor": "Inductor, fp16 and fusion"}
STYLE = ((-0.12, "#0072B2", "o", "first process"), (0.12, "#D55E00", "^", "second process"))


def main() -> None:
    """Draw both."""
    plt.rcParams.update({"font.size": 9})
    eight_builds()
    cells()


def cells() -> None:
    """Draw a line a cell and a mark a build: how much slower than its fastest build it is."""
    shown = {name: visits for name, visits in visits_by_cell() if name != "eager"}
    shown = dict(sorted(shown.items(), key=lambda cell: (cell[0].startswith("eager"), "fusion" in cell[0], cell[0])))
    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    for place, (name, visits) in enumerate(reversed(shown.items())):
        means = visits.assign(log=np.log(visits["milliseconds"])).groupby("build")["log"].mean()
        slower = 100 * np.expm1(means - means.min())
        colour = "0.45" if name.startswith("eager") else "#D55E00" if "fusion" in name else "#0072B2"
        axes.plot(slower, [place] * len(slower), "o", color=colour, markersize=6, alpha=0.6)
    axes.set_yticks(range(len(shown)), [name.replace("_", " ") for name in reversed(shown)])
    axes.set_xlabel(
        "slower than the fastest build of the cell, %   (grey: eager, brought up anew; blue: level 0; orange: level 3)"
    )
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    (HERE / "cells.svg").write_text(svg_text(figure), encoding="utf-8")


def eight_builds() -> None:
    """Draw a panel an engine, with one scale."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
    for axes, (engine, title) in zip(panels, CELLS.items(), strict=True):
        visits = pandas.read_csv(HERE / engine / "samples.csv")
        fastest = visits.groupby("build")["milliseconds"].mean().min()
        for process, (shift, colour, marker, label) in enumerate(STYLE):
            of_process = visits[visits["process"] == process]
            number = of_process["build"].str.removeprefix("build ").astype(int)
            slower = 100 * (of_process["milliseconds"] / fastest - 1)
            axes.plot(number + shift, slower, marker, color=colour, markersize=4, alpha=0.6, label=label)
        axes.set(title=title, xlabel="build", xticks=range(1, 9))
        axes.grid(axis="y", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("slower than the fastest build, %")
    panels[0].legend(frameon=False, loc="upper left")
    (HERE / "builds.svg").write_text(svg_text(figure), encoding="utf-8")


if __name__ == "__main__":
    main()
