"""How far another build of TensorRT moves a cell: every cell that was built several times, and all of them together.

    python experiments/rebuilds/spread.py      # writes spread.csv beside this file

Of `tensorrt/` (eight builds of one cell) and `rebuilds_three/` (three builds of each accelerated cell): the standard
deviation of ln(time) between builds, its degrees of freedom, and the variance of all, each weighted by these. Visits
and processes add next to nothing: eager cells, brought up anew with each build, are in the table to show that.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas

HERE = Path(__file__).parent
EIGHT = "fusion"  # the cell of `tensorrt/`
LEVELS = {"fusion": 3, "dynamic_batching": 0}  # the builder's


def main() -> None:
    """Print and write the table."""
    rows = table()
    shown = pandas.DataFrame([row | {"factor of two built cells": row["sd, %"] * math.sqrt(2)} for row in rows])
    shown.to_csv(HERE / "spread.csv", index=False, float_format="%.4g")
    print(shown.to_string(index=False))


def table() -> list[dict[str, Any]]:
    """Return a row a cell, and the row of all that TensorRT built."""
    built = [row for row in cells() if row["level"] != ""]
    df = sum(int(row["df"]) for row in built)
    variance = sum(int(row["df"]) * float(row["sd, %"]) ** 2 for row in built) / df
    builds = sum(int(row["builds"]) for row in built)
    together = {"cell": "all", "level": "", "builds": builds, "sd, %": math.sqrt(variance), "df": df}
    return [*cells(), together]


def cells() -> list[dict[str, Any]]:
    """Return a row a cell: how far its builds lie apart."""
    return [of(name, visits) for name, visits in visits_by_cell()]


def visits_by_cell() -> list[tuple[str, pandas.DataFrame]]:
    """Return the visits of each cell: milliseconds by build."""
    eight = pandas.read_csv(HERE / "tensorrt" / "samples.csv").assign(cell=EIGHT)
    several = pandas.read_parquet(HERE / "rebuilds_three" / "samples.parquet")
    runs = pandas.read_csv(HERE / "rebuilds_three" / "results.csv").set_index("run_id")["run_name"]
    several = several[several["boundary"] == "device"].assign(run=several["run_id"].map(runs))
    several["cell"] = [cell_of(row.run, row.cell) for row in several[["run", "cell"]].itertuples()]
    visits = several.groupby(["cell", "build", "block"])["milliseconds"].median().reset_index()
    return [(str(name), group) for name, group in visits.groupby("cell")] + [(f"{EIGHT} (another lease)", eight)]


def cell_of(run: str, role: str) -> str:
    """Return the name of a cell, by its quartet ("pruned x fusion b32") and its role there."""
    arch, hw = run.removesuffix(" b32").split(" x ")
    return {"baseline": "eager", "arch": f"eager {arch}", "hw": hw, "combined": f"{arch} {hw}"}[role]


def of(name: str, visits: pandas.DataFrame) -> dict[str, Any]:
    """Return the row of one cell, of its visits."""
    means = visits.assign(log=np.log(visits["milliseconds"])).groupby("build")["log"].mean()
    level = next((level for hw, level in LEVELS.items() if hw in name), "")
    return {
        "cell": name, "level": level,
        "builds": len(means), "sd, %": 100 * float(means.std(ddof=1)), "df": len(means) - 1,
    }  # fmt: skip


if __name__ == "__main__":
    main()
