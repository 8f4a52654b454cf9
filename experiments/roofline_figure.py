"""Draw a study's cells under the machine's measured ceilings (Williams, Waterman, Patterson 2009, "Roofline").

python experiments/roofline_figure.py experiments/densenet121_h100/first_pieces [MORE FOLDERS] --out FILE.svg
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas
from study_figure import CELLS, asked, load, save

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h", "d")
PRECISIONS = {"fp32": ("#555555", "--"), "fp16": ("#000000", "-")}


def points(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row a cell and quartet: operations a byte, TFLOP/s reached, cell, label."""
    rows = []
    for _, row in frame.iterrows():
        for prefix, (cell, colour) in CELLS.items():
            work = row.get(f"{prefix}roofline/gflop_per_image"), row.get(f"{prefix}roofline/mb_per_image")
            speed = row.get(f"{prefix}throughput/device")
            if any(value is None or not np.isfinite(value) for value in (*work, speed)):
                continue
            rows.append(
                {
                    "intensity": 1e3 * work[0] / work[1],
                    "tflops": work[0] * speed / 1e3,
                    "cell": cell,
                    "colour": colour,
                    "label": f"{row['arch']}, b{row['batch_size']:.0f}",
                }
            )
    return pandas.DataFrame(rows)


def draw(frame: pandas.DataFrame, path: Path) -> None:
    """Write the figure."""
    found = points(frame)
    copy_gb_s = frame["machine/copy_gb_s"].median()
    plt.rcParams.update({"font.size": 9})
    fig, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    reach = np.geomspace(found["intensity"].min() / 3, found["intensity"].max() * 10, 200)
    for precision, (colour, line) in PRECISIONS.items():
        product = frame[f"machine/matmul_{precision}_tflops"].median()
        label = f"{precision}: {product:.0f} TFLOP/s, copy {copy_gb_s:,.0f} GB/s"
        axes.loglog(reach, np.minimum(product, copy_gb_s * reach / 1e3), line, color=colour, label=label)
    for marker, (quartet, cells) in zip(MARKERS * 7, found.groupby("label", sort=False), strict=False):
        axes.scatter(cells["intensity"], cells["tflops"], marker=marker, c=list(cells["colour"]), s=45,
                     edgecolors="black", linewidths=0.5, zorder=3)  # fmt: skip
        axes.scatter([], [], marker=marker, color="white", edgecolors="black", label=str(quartet))
    for cell, colour in CELLS.values():
        axes.scatter([], [], marker="o", color=colour, edgecolors="black", linewidths=0.5, label=cell)
    axes.set(
        title="Each cell under the ceilings measured beside it",
        xlabel="operations a byte of the exported graph (each weighted layer reads and writes once)",
        ylabel="TFLOP/s reached, device boundary",
    )
    axes.grid(which="major", color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    fig.legend(loc="outside right upper", frameon=False)
    save(fig, path)


if __name__ == "__main__":
    folders, out = asked(__doc__)
    draw(load(folders), out)
