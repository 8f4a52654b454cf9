"""Draw a study: the factor of each quartet on both clocks, and the throughput of its four cells.

python experiments/study_figure.py experiments/densenet121_h100/first_pieces [MORE FOLDERS] --out FILE.svg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.figure import Figure

from harness.report.figures.canvas import svg_text, write_whole
from harness.results.estimand import hw_in_words

# Okabe and Ito's colours; the markers say the same once more
CLOCKS = {"device": ("#0072B2", "o", -0.15), "wall": ("#E69F00", "s", 0.15)}
CELLS = {
    "baseline/": ("baseline", "#BBBBBB"), "arch/": ("arch", "#E69F00"), "hw/": ("hw", "#56B4E9"),
    "": ("combined", "#009E73"),
}  # fmt: skip
RANGE = (0.35, 1.6)  # at least; an arrow where an interval leaves it


def load(folders: list[Path]) -> pandas.DataFrame:
    """Return the finished quartets of several result folders, in the order they are given."""
    frame = pandas.concat([pandas.read_csv(folder / "results.csv") for folder in folders], ignore_index=True)
    return frame[(frame["status"] == "FINISHED") & frame["interaction/factor"].notna()].reset_index(drop=True)


def label(row: pandas.Series, models: int = 1) -> str:
    """Return what tells a quartet from the others; its model too where there are several."""
    model = f"{row['model']}: " if models > 1 else ""
    ours = " (our dense blocks)" if str(row.get("hw.fusion.dense_blocks")) == "True" else ""
    hw = hw_in_words(row["hw"].split("+"), row["engine"], row["reference"])
    quartet = f"{model}{row['arch']} x {hw}, b{row['batch_size']:.0f}"
    return f"{quartet}\n{row['engine']}{ours}, reference {row['reference']}"


def draw(frame: pandas.DataFrame, path: Path) -> None:
    """Write the figure."""
    plt.rcParams.update({"font.size": 9})
    height = 1.6 + 0.62 * len(frame)
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(12, height), layout="constrained", sharey=True, width_ratios=(3, 2)
    )
    places = np.arange(len(frame), dtype=float)
    left.axvspan(0.95, 1.05, color="0.9", zorder=0, label="margin, 0.95 to 1.05")
    left.axvline(1, color="0.4", linewidth=0.8)
    factors = frame.filter(regex="^interaction/[a-z0-9]+_factor$").to_numpy()
    bounds = min(RANGE[0], 0.95 * np.nanmin(factors)), max(RANGE[1], 1.05 * np.nanmax(factors))
    for clock, (colour, marker, shift) in CLOCKS.items():
        if f"interaction/{clock}_factor" not in frame:
            continue
        factor, low, high = (frame[f"interaction/{clock}_{key}"].to_numpy() for key in ("factor", "low", "high"))
        shown = factor.clip(*bounds)
        errors = (shown - low.clip(*bounds), high.clip(*bounds) - shown)
        y = places + shift
        left.errorbar(shown, y, xerr=errors, fmt=marker, color=colour, markersize=5, label=f"{clock}, 95% interval")
        left.plot(np.full((low < bounds[0]).sum(), bounds[0]), y[low < bounds[0]], "<", color=colour)
        left.plot(np.full((high > bounds[1]).sum(), bounds[1]), y[high > bounds[1]], ">", color=colour)
    labels = [label(row, frame["model"].nunique()) for _, row in frame.iterrows()]
    left.set(xlabel="interaction factor", yticks=places, yticklabels=labels)
    boundary = "device" if "throughput/device" in frame else "wall"
    for index, (prefix, (name, colour)) in enumerate(CELLS.items()):
        values = frame[f"{prefix}throughput/{boundary}"].to_numpy()
        bars = right.barh(places + (index - 1.5) * 0.2, values, 0.19, color=colour, edgecolor="black", linewidth=0.4,
                          label=name)  # fmt: skip
        right.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=2, fontsize=7)
    right.margins(x=0.15)
    left.set_ylim(len(frame) - 0.4, -0.6)  # from top to bottom; both sides share it
    right.set_xlabel(f"images/s on the {boundary} boundary")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    legends = [axes.get_legend_handles_labels() for axes in (left, right)]
    handles, names = ([*first, *second] for first, second in zip(*legends, strict=True))
    fig.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    save(fig, path)


def save(fig: Figure, path: Path) -> None:
    """Write a figure as SVG, which is what is committed: the same data give the same bytes."""
    write_whole(path, svg_text(fig).encode())


def asked(description: str) -> tuple[list[Path], Path]:
    """Return the folders and the file of the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.out.suffix != ".svg":
        parser.error(f"--out {arguments.out}: figures of studies are SVG files, name one FILE.svg")
    return arguments.folders, arguments.out


if __name__ == "__main__":
    folders, out = asked(__doc__)
    draw(load(folders), out)
