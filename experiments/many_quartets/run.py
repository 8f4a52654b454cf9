"""One sweep of 200 quartets on a tiny network: what the harness itself costs, early and late: python run.py.

Four architectures by two accelerations by 25 batch sizes, each batch size a design of 15 cells and 8 quartets, five
blocks each (some 5 ms a batch), from an empty cache. What is read: seconds a quartet (exports, builds, bringing up,
verification, blocks, analysis, records) in the first and the last fifth; the coordinator's memory; the store's size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas
import psutil

import harness
from harness.system.machine import environment

HERE = Path(__file__).resolve().parent
SAMPLED_EVERY_S = 2.0
ARCHS, HWS = "grouped,low_rank,pruned,reduced_growth", "fusion,identity"
GRID = (
    "-m", "model=densenet_tiny", f"arch={ARCHS}", f"hw={HWS}", "reference=engine", "engine=onnxruntime",
    "arch.reduced_growth.growth_rate=6", "protocol=quick", "protocol.min_blocks=5", "protocol.max_blocks=5",
    "protocol.slice_s=0.01",
    "protocol.warmup_max_s=0.1", "protocol.ceilings=false",
)  # fmt: skip


def main() -> int:
    """Run the sweep; return its status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=25, help="batch sizes, each of 8 quartets")
    parser.add_argument("--out", type=Path, default=HERE)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        memory: list[tuple[float, float]] = []
        began = time.time()
        status = sweep(folder, asked.batches, memory)
        ended = time.time()
        frame = harness.load("many", str(folder / "mlruns"))
        rows = quartets(frame, folder / "mlruns", began)
        summary = {
            "status": status, "wall_s": round(ended - began), "quartets": frame["status"].value_counts().to_dict(),
            "store_mb": round(size_bytes(folder / "mlruns") / 1e6, 1),
            "database_mb": round((folder / "mlruns" / "mlflow.db").stat().st_size / 1e6, 1),
            "store_kb_a_quartet": round(size_bytes(folder / "mlruns") / 1e3 / len(frame), 1),
            **early_and_late(rows, memory, began, ended), "environment": environment(),
        }  # fmt: skip
    rows.to_csv(asked.out / "quartets.csv", index=False)
    pandas.DataFrame(memory, columns=["after_s", "coordinator_mb"]).round(1).to_csv(
        asked.out / "memory.csv", index=False
    )
    (asked.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({name: value for name, value in summary.items() if name != "environment"}, indent=1))
    return status


def sweep(folder: Path, batches: int, memory: list[tuple[float, float]]) -> int:
    """Run the sweep with a store and a cache of its own; sample the coordinator's resident memory."""
    sizes = ",".join(map(str, range(1, batches + 1)))
    command = [*GRID, f"batch_size={sizes}", f"tracking.root={folder / 'mlruns'}", "sweep_name=many"]
    with open(folder / "printed.txt", "w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", *command],
            cwd=folder, env={**os.environ, "HARNESS_CACHE": str(folder / "cache")}, stdout=printed, stderr=printed,
        )  # fmt: skip
        began, over = time.monotonic(), threading.Event()

        def sample() -> None:
            while not over.wait(SAMPLED_EVERY_S):
                try:
                    resident_bytes = psutil.Process(process.pid).memory_info().rss
                except psutil.Error:
                    return
                memory.append((time.monotonic() - began, resident_bytes / 1e6))

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            return process.wait()
        finally:
            over.set()
            thread.join()
            print((folder / "printed.txt").read_text()[-2000:], flush=True)


def quartets(frame: pandas.DataFrame, root: Path, began: float) -> pandas.DataFrame:
    """Return one row a quartet, oldest first: when it was recorded."""
    rows = []
    for _, row in frame.iterrows():
        samples = next(root.rglob(f"{row['run_id']}/artifacts/samples.parquet"))
        rows.append({
            "name": row["run_name"], "batch_size": int(row["batch_size"]),
            "recorded_after_s": round(samples.stat().st_mtime - began, 1),
        })  # fmt: skip
    return pandas.DataFrame(rows).sort_values("recorded_after_s")


def early_and_late(
    rows: pandas.DataFrame, memory: list[tuple[float, float]], began: float, ended: float
) -> dict[str, float]:
    """Return seconds a quartet and the coordinator's memory in the first and the last fifth of the measuring."""
    ends_s = rows.groupby("batch_size")["recorded_after_s"].max().sort_values().to_numpy()
    each_s = np.diff(ends_s) / rows.groupby("batch_size").size().to_numpy()[1:]
    fifth = max(1, len(each_s) // 5)
    resident_mb = np.array([mb for _, mb in memory])
    tenth = max(1, len(resident_mb) // 10)
    return {
        "before_the_first_design_s": round(float(ends_s[0]), 1),
        "early_s_a_quartet": round(float(each_s[:fifth].mean()), 2),
        "late_s_a_quartet": round(float(each_s[-fifth:].mean()), 2),
        "after_the_last_design_s": round(ended - began - float(ends_s[-1]), 1),
        "coordinator_early_mb": round(float(np.median(resident_mb[:tenth]))),
        "coordinator_late_mb": round(float(np.median(resident_mb[-tenth:]))),
        "coordinator_peak_mb": round(float(resident_mb.max())),
    }


def size_bytes(folder: Path) -> int:
    """Return what all files of a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
