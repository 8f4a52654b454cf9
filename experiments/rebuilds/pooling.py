"""What an interval of few builds is worth, alone and pooled with what is known of other builds: a simulation.

    python experiments/rebuilds/pooling.py      # writes pooling.csv beside this file; half a minute

Builds are drawn from normal distributions: with the standard deviation of all cells of `spread.py`, times `ratio`; or,
"as seen", with that of one of those cells, drawn anew for each cell of each run. What is known comes from other draws
each time, of as many cells and builds as there are (of ratio 1). Blocks have no noise here, so that only builds move
the factor, of which `cells` cells of a quartet are built.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas
from scipy import stats

from harness.stats.prior import KnownSpread
from spread import table

HERE = Path(__file__).parent
RUNS, SEED = 20_000, 20261201
*_SEEN, _ALL = [row for row in table() if row["level"] != "" or row["cell"] == "all"]
SDS, DFS = (np.array([float(row[name]) for row in _SEEN]) for name in ("sd, %", "df"))  # of each cell
SD, DF = float(_ALL["sd, %"]), int(_ALL["df"])  # of all


def main() -> None:
    """Simulate every case; print and write the table."""
    rows = []
    for drawn, ratio in (("as seen", 1.0), *(("all alike", ratio) for ratio in (0.5, 1.0, 1.5, 2.0))):
        for cells in (2, 4):
            for builds in (2, 3, 6):
                rows.append({"builds drawn": drawn, "ratio": ratio, "cells": cells, "builds": builds}
                            | simulated(drawn, ratio, cells, builds))  # fmt: skip
    result = pandas.DataFrame(rows)
    result.to_csv(HERE / "pooling.csv", index=False, float_format="%.4g")
    print(result.to_string(index=False))


def simulated(drawn: str, ratio: float, cells: int, builds: int) -> dict[str, float]:
    """Return coverage (%) and median half-width (%) of both intervals, at 95%, and the coverage of those at 99%."""
    random = np.random.default_rng(SEED)

    def sds(*shape: int) -> np.ndarray:
        return random.choice(SDS, shape) / 100 if drawn == "as seen" else np.full(shape, SD / 100)

    known_sd = np.sqrt(cells * (sds(RUNS, len(DFS)) ** 2 * random.chisquare(DFS, (RUNS, len(DFS)))).sum(axis=1) / DF)
    of_cell = ratio * sds(RUNS, 1, cells)
    moves = random.normal(0, 1, (RUNS, builds, cells)) * of_cell @ np.resize([1.0, -1.0], cells)
    mean, variance = moves.mean(axis=1), moves.var(axis=1, ddof=1)
    pooled = [KnownSpread(sd, DF + 1).pooled_with(own, builds - 1) for sd, own in zip(known_sd, variance, strict=True)]
    out = {}
    for name, used, df in (
        ("alone", variance, builds - 1),
        ("pooled", np.array([float(one) for one, _ in pooled]), pooled[0][1]),
    ):
        half, wide = (stats.t.ppf((1 + level) / 2, df) * np.sqrt(used / builds) for level in (0.95, 0.99))
        out |= {f"{name} covers, %": 100 * float(np.mean(np.abs(mean) <= half + 1e-4)),
                f"{name} half-width, %": 100 * math.expm1(float(np.median(half))),
                f"{name} at 99% covers, %": 100 * float(np.mean(np.abs(mean) <= wide + 1e-4))}  # fmt: skip
    return out


if __name__ == "__main__":
    main()
