"""What the estimator says of identical cells: every window of 15 and more blocks of the committed A/A controls.

The quartets of a control have the same four cells, each quartet in processes of its own: to the estimator they are
restarts of one run. A window is so many consecutive blocks of all quartets of an engine, in the order they were
measured, and its true factor is 1. A verdict but `independent` and `inconclusive` is false.

python experiments/calibration/controls.py
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
from numpy.typing import NDArray

from harness.stats import Interaction, estimate
from harness.stats.roles import ROLES
from harness.stats.verdict import DECISION_LEVEL

EXPERIMENTS = Path(__file__).resolve().parents[1]
STUDIES = ("aa_h100", "aa_h200")
LENGTHS = (15, 16, 20, 28, 40, 57, 80, 113)  # blocks


@dataclass(frozen=True)
class Control:
    """The blocks of all quartets of one engine."""

    study: str
    engine: str
    throughput: NDArray[np.float64]  # [blocks, 4], batches a second on the device
    quartet_of: NDArray[np.intp]  # [blocks]


@dataclass(frozen=True)
class Windows:
    """What was said of all windows of one length."""

    control: Control
    blocks: int
    verdicts: Counter[str]
    deciding: Counter[str]  # where the run would end at its verdict: the stricter rule of the protocol
    unstationary: int
    median_half_width: float

    @property
    def count(self) -> int:
        """How many windows there are."""
        return self.verdicts.total()

    @property
    def false(self) -> int:
        """How many verdicts the true factor of 1 contradicts, by either rule."""
        return sum(found["amplify"] + found["conflict"] for found in (self.verdicts, self.deciding))


def controls() -> list[Control]:
    """Return the committed controls on the device boundary, one for each study and engine."""
    out = []
    for study in STUDIES:
        rows = pandas.read_csv(EXPERIMENTS / study / "results.csv")
        samples = pandas.read_parquet(EXPERIMENTS / study / "samples.parquet")
        device = samples[samples["boundary"] == "device"].astype({"cell": str, "run_id": str})
        speeds = 1e3 / device.groupby(["run_id", "block", "cell"])["milliseconds"].mean().unstack("cell")[list(ROLES)]
        for engine, members in rows[rows["status"] == "FINISHED"].groupby("engine", sort=False):
            parts = [speeds.loc[run_id].sort_index().to_numpy() for run_id in members["run_id"]]
            labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            out.append(Control(study, str(engine), np.concatenate(parts), labels))
    return out


def windows(control: Control, lengths: tuple[int, ...] = LENGTHS) -> list[Windows]:
    """Return what `estimate` says of all windows of a control, one row for each length that it has."""
    out = []
    for blocks in lengths:
        starts = range(len(control.throughput) - blocks + 1)
        found = [_estimates(control, slice(start, start + blocks)) for start in starts]
        if found:
            out.append(
                Windows(
                    control,
                    blocks,
                    Counter(str(plain.verdict) for plain, _ in found),
                    Counter(str(strict.verdict) for _, strict in found),
                    sum(bool(plain.unstationary) for plain, _ in found),
                    float(np.median([plain.half_width for plain, _ in found])),
                )
            )
    return out


def _estimates(control: Control, window: slice) -> tuple[Interaction, Interaction]:
    blocks, labels = control.throughput[window], control.quartet_of[window]
    return estimate(blocks, labels), estimate(blocks, labels, decision_level=DECISION_LEVEL)


def as_table(found: list[Windows]) -> list[str]:
    """Return a Markdown table."""
    head = (
        "control", "engine", "blocks", "windows", "false", "independent", "by the protocol", "unstationary",
        "half-width",
    )  # fmt: skip
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in found:
        share, strict = (100 * counts["independent"] / row.count for counts in (row.verdicts, row.deciding))
        cells = (
            row.control.study, row.control.engine, row.blocks, row.count, row.false, f"{share:.0f}%", f"{strict:.0f}%",
            row.unstationary, f"{row.median_half_width:.2%}",
        )  # fmt: skip
        out.append("| " + " | ".join(map(str, cells)) + " |")
    return out


if __name__ == "__main__":
    print("\n".join(as_table([row for control in controls() for row in windows(control)])))
