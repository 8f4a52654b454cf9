"""What an interval of few builds is worth, alone and pooled with what is known of other builds: a simulation.

    python experiments/rebuilds/pooling.py      # writes pooling.csv beside this file; half a minute

Builds are drawn at random from the eight of `tensorrt/` (as they were seen), or from a normal distribution with their
standard deviation times `ratio`. What is known comes from eight other draws each time (of ratio 1). Blocks have no
noise here, so that only builds move the factor, of which `cells` cells of a quartet are built.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas
from scipy import stats

from harness.stats.prior import KnownSpread

HERE = Path(__file__).parent
RUNS, SEED, KNOWN = 20_000, 20261201, 8


def main() -> None:
    """Simulate every case; print and write the table."""
    visits = pandas.read_csv(HERE / "tensorrt" / "samples.csv")
    seen = np.log(visits.groupby("build")["milliseconds"].mean().to_numpy())
    rows = []
    for drawn, ratio in (("as seen", 1.0), *(("normal", ratio) for ratio in (0.5, 1.0, 1.5, 2.0))):
        for cells in (2, 4):
            for builds in (2, 3, 5):
                rows.append({"builds drawn": drawn, "ratio": ratio, "cells": cells, "builds": builds}
                            | simulated(seen, drawn, ratio, cells, builds))  # fmt: skip
    table = pandas.DataFrame(rows)
    table.to_csv(HERE / "pooling.csv", index=False, float_format="%.4g")
    print(table.to_string(index=False))


def simulated(seen: np.ndarray, drawn: str, ratio: float, cells: int, builds: int) -> dict[str, float]:
    """Return coverage (%) and median half-width (%) of both intervals, at 95%, and the coverage of those at 99%."""
    random = np.random.default_rng(SEED)

    def draw(*shape: int) -> np.ndarray:
        return random.choice(seen, shape) if drawn == "as seen" else random.normal(0, seen.std(ddof=1), shape)

    signs = np.resize([1.0, -1.0], cells)
    known_sd = math.sqrt(cells) * draw(RUNS, KNOWN).std(axis=1, ddof=1)
    moves = ratio * draw(RUNS, builds, cells) @ signs
    mean, variance = moves.mean(axis=1), moves.var(axis=1, ddof=1)
    pooled = [KnownSpread(sd, KNOWN).pooled_with(own, builds - 1) for sd, own in zip(known_sd, variance, strict=True)]
    out = {}
    for name, used, df in (
        ("alone", variance, builds - 1),
        ("pooled", np.array([float(one) for one, _ in pooled]), pooled[0][1]),
    ):
        half, wide = (stats.t.ppf((1 + level) / 2, df) * np.sqrt(used / builds) for level in (0.95, 0.99))
        out |= {f"{name} covers, %": 100 * float(np.mean(np.abs(mean) <= half + 1e-4)),
                f"{name} half-width, %": 100 * float(np.median(half)),
                f"{name} at 99% covers, %": 100 * float(np.mean(np.abs(mean) <= wide + 1e-4))}  # fmt: skip
    return out


if __name__ == "__main__":
    main()
