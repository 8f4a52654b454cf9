"""Draw the A/A control and print its summary from what `collect.py` wrote.

python experiments/aa_figure.py experiments/aa_h200
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas
from study_figure import save

LOW, HIGH = 0.95, 1.05
RANGE = (0.8, 1.28)  # an arrow where an interval leaves it
# Okabe and Ito's colours; the markers say the same once more
STYLE = {
    "device": ("device, with 95% interval", "#0072B2", "o", -0.22),
    "wall": ("wall, with 95% interval", "#E69F00", "s", 0.0),
    "coursework": ("usual recipe (wall, no interval)", "#D55E00", "X", 0.22),
}


def verdict(low: pandas.Series, high: pandas.Series) -> pandas.Series:
    """Return what the interval says; no cell here is host-bound, so no verdict waits for restarts."""
    choices = {"amplify": low > HIGH, "conflict": high < LOW, "independent": (low >= LOW) & (high <= HIGH)}
    return pandas.Series(np.select(list(choices.values()), list(choices), "inconclusive"), low.index)


def summarise(frame: pandas.DataFrame) -> None:
    """Print verdicts, spread, coverage of 1 and half-widths."""
    for name in ("device", "wall", "e2e"):
        factor, low, high = (frame[f"interaction/{name}_{key}"] for key in ("factor", "low", "high"))
        half = np.log(high / low) / 2
        print(
            f"{name}: {verdict(low, high).value_counts().to_dict()}, factors {factor.min():.4f} to {factor.max():.4f}"
        )
        print(
            f"  sd of ln(factor) {np.log(factor).std():.4%}, 1 inside {((low < 1) & (high > 1)).sum()} of {len(frame)}"
        )
        print(
            f"  half-width {half.min():.3%} / {half.median():.3%} / {half.max():.3%}, <= 0.5%: {(half <= 0.005).sum()}"
        )
    factor, says = frame["coursework/factor"], frame["coursework_verdict"].value_counts().to_dict()
    print(f"usual recipe: {says}, factors {factor.min():.4f} to {factor.max():.4f}, sd {np.log(factor).std():.4%}")
    print(f"blocks {frame['measure/blocks'].min():.0f} to {frame['measure/blocks'].max():.0f}", end=", ")
    print(f"host share {frame['measure/host_share'].min():.4f} to {frame['measure/host_share'].max():.4f}")


def summarise_visits(samples: pandas.DataFrame) -> None:
    """Print the device time of visits whose cell was also the last one to run before, against all others."""
    device = samples[samples["boundary"] == "device"].astype({"cell": str, "run_id": str})
    visits = device.groupby(["run_id", "block", "order", "cell"])["milliseconds"].mean().reset_index()
    before = visits.groupby("run_id")["cell"].shift().fillna("combined")  # the last that is warmed up
    for again, ms in visits["milliseconds"].groupby(before == visits["cell"]):
        name = "same" if again else "another"
        print(f"{name} cell before: {len(ms)} visits, {ms.mean():.4f} ms ({ms.min():.4f} to {ms.max():.4f})")


def draw(frame: pandas.DataFrame, folder: Path) -> None:
    """Write aa.svg into the folder."""
    plt.rcParams.update({"font.size": 9})
    fig, panels = plt.subplots(2, 1, figsize=(10, 6.4), layout="constrained", sharex=True, height_ratios=(2.2, 1))
    places = np.arange(len(frame), dtype=float)
    for axes, names in zip(panels, (STYLE, ["device"]), strict=True):
        axes.axhline(1, color="0.4", linewidth=0.8)
        for name in names:
            label, colour, marker, shift = STYLE[name]
            x = places + (shift if axes is panels[0] else 0)
            if name == "coursework":
                axes.plot(x, frame["coursework/factor"], marker, color=colour, label=label)
                continue
            factor, low, high = (frame[f"interaction/{name}_{key}"].to_numpy() for key in ("factor", "low", "high"))
            errors = (factor - low.clip(*RANGE), high.clip(*RANGE) - factor)
            axes.errorbar(x, factor, errors, fmt=marker, color=colour, markersize=4.5, linewidth=1.4, label=label)
            axes.plot(x[low < RANGE[0]], low[low < RANGE[0]].clip(RANGE[0]), "v", color=colour)
            axes.plot(x[high > RANGE[1]], high[high > RANGE[1]].clip(None, RANGE[1]), "^", color=colour)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.93")
        axes.set_ylabel("interaction factor")
    panels[0].axhspan(LOW, HIGH, color="0.9", zorder=0, label="margin, 0.95 to 1.05")
    panels[0].set(title="A/A control: four identical cells, so the true factor is 1")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    names = [f"{seed:.0f}" for seed in frame["protocol.seed"]]
    panels[1].set(title="Device alone, enlarged", xlabel="quartet (protocol.seed)", xticks=places, xticklabels=names)
    for engine, rows in frame.copy().reset_index().groupby("engine", sort=False):
        first = rows.index.min()
        left = first - 0.5 if first else panels[1].get_xlim()[0]
        panels[1].annotate(
            str(engine), (left, 0.97), xycoords=("data", "axes fraction"), va="top",
            xytext=(4, 0), textcoords="offset points",
        )  # fmt: skip
        for axes in panels if first else ():
            axes.axvline(first - 0.5, color="0.7", linewidth=0.8, linestyle=":")
    save(fig, folder / "aa.svg")


if __name__ == "__main__":
    study = Path(sys.argv[1])
    results = pandas.read_csv(study / "results.csv")
    results = results[results["status"] == "FINISHED"].sort_values(["engine", "protocol.seed"])
    samples = pandas.read_parquet(study / "samples.parquet")
    for engine, rows in results.groupby("engine", sort=False):
        print(f"--- {engine}: {len(rows)} quartets")
        summarise(rows)
        summarise_visits(samples[samples["run_id"].isin(rows["run_id"])])
    draw(results, study)
