"""Eight builds of one cell at a glance: each visit, by build and by process.

python experiments/rebuilds/figure.py      # from tensorrt/ and inductor/ beside this file, writes builds.svg there
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas

from harness.report.figures.canvas import svg_text

HERE = Path(__file__).parent
CELLS = {"tensorrt": "TensorRT, fusion (fp32, level 3)", "inductor": "Inductor, fp16 and fusion"}
STYLE = ((-0.12, "#0072B2", "o", "first process"), (0.12, "#D55E00", "^", "second process"))


def main() -> None:
    """Draw a panel an engine, with one scale."""
    plt.rcParams.update({"font.size": 9})
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
