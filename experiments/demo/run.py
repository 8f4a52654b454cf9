"""Run the demo again and again, each time as the first time, and its A/A control: python run.py --demos 10.

A demo gets a store and a cache of its own, both empty. The control measures the network against itself by the demo's
protocol, five times as many blocks; each fifth of them, of which a demo would be made, is judged by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas
import psutil

import harness
from harness.measure.settings import CPU_RESTARTS
from harness.stats import estimate
from harness.stats.interaction import for_others
from harness.stats.verdict import DECISION_LEVEL
from harness.system.machine import environment

HERE = Path(__file__).resolve().parent
WINDOW_BLOCKS, WINDOWS = 120, 5
CONTROL = (
    "arch=identity", "hw=identity", f"protocol.min_blocks={WINDOW_BLOCKS * WINDOWS}",
    f"protocol.max_blocks={WINDOW_BLOCKS * WINDOWS}", "protocol.budget_s=600",
)  # fmt: skip
COLUMNS = (
    "gain/arch",
    "gain/hw",
    "gain/expected",
    "gain/combined",
    "interaction/factor",
    "interaction/low",
    "interaction/high",
)


def main() -> int:
    """Run both; write demos.csv, controls.csv, environment.json and the newest demo's picture and screen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demos", type=int, default=10)
    parser.add_argument("--controls", type=int, default=10, help="sweeps, each of five windows")
    parser.add_argument("--out", type=Path, default=HERE)
    asked = parser.parse_args()
    demos: list[dict[str, object]] = []
    for number in range(1, asked.demos + 1):
        demos += demo(number, asked.out)
        pandas.DataFrame(demos).to_csv(asked.out / "demos.csv", index=False)
    controls: list[dict[str, object]] = []
    for number in range(1, asked.controls + 1):
        controls += control(number)
        pandas.DataFrame(controls).to_csv(asked.out / "controls.csv", index=False)
    (asked.out / "environment.json").write_text(json.dumps(environment(), indent=1) + "\n")
    return 0


def demo(number: int, out: Path) -> list[dict[str, object]]:
    """Run `make demo`'s command from nothing; return a row a quartet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load, began = psutil.getloadavg()[0], time.monotonic()
        printed = harness_in(folder)
        seconds = time.monotonic() - began
        frame = harness.load("demo", str(folder / "mlruns"))
        (out / "screen.txt").write_text(printed)
        for picture in folder.glob("mlruns/artifacts/*/artifacts/figures/headline.svg"):
            shutil.copy(picture, out / "headline.svg")
    rows = [
        {
            "demo": number, "seconds": round(seconds, 1), "load_before": round(load, 1), "quartet": row["run_name"],
            "verdict": row["verdict_holm"], "blocks": int(row["measure/blocks"]),
            **{column: round(float(row[column]), 4) for column in COLUMNS},
        }
        for _, row in frame.iterrows()
    ]  # fmt: skip
    for row in rows:
        print(row, flush=True)
    return rows


def control(number: int) -> list[dict[str, object]]:
    """Measure the network against itself; return a row a window."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        harness_in(folder, *CONTROL)
        (samples,) = folder.glob("mlruns/artifacts/*/artifacts/samples.parquet")
        timed = pandas.read_parquet(samples)
    wall = timed[timed["boundary"] == "wall"]
    throughput = 1e3 / wall.groupby(["block", "cell"])["milliseconds"].mean().unstack()
    throughput = throughput[["baseline", "arch", "hw", "combined"]]
    rows = []
    for window in range(WINDOWS):
        part = throughput.iloc[window * WINDOW_BLOCKS : (window + 1) * WINDOW_BLOCKS]
        blocks_alone = estimate(part.to_numpy(), decision_level=DECISION_LEVEL)
        found = for_others(blocks_alone, CPU_RESTARTS, "restart")
        rows.append({
            "control": number, "window": window + 1, "blocks": len(part), "verdict": str(found.verdict),
            "factor": round(found.factor, 4), "low": round(found.low, 4), "high": round(found.high, 4),
            "blocks_verdict": str(blocks_alone.verdict), "blocks_low": round(blocks_alone.low, 4),
            "blocks_high": round(blocks_alone.high, 4),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def harness_in(folder: Path, *overrides: str) -> str:
    """Run the demo in an empty folder; return what it printed."""
    own = {"HARNESS_CACHE": str(folder / "cache"), "COLUMNS": "120"}
    ended = subprocess.run(
        [sys.executable, "-m", "harness", "experiment=demo", *overrides],
        cwd=folder, env={**os.environ, **own}, capture_output=True, text=True,
    )  # fmt: skip
    if ended.returncode:
        raise SystemExit(f"status {ended.returncode}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return ended.stdout


if __name__ == "__main__":
    sys.exit(main())
