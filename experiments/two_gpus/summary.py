"""What run.sh measured on a host with two GPUs, as tables: grid.csv, neighbour.csv, across.csv.

python experiments/two_gpus/summary.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas

SIGNS = {"baseline": 1, "combined": 1, "arch": -1, "hw": -1}
BOUNDARIES = ("device", "wall")


def main(folder: Path) -> None:
    """Write and print what is there."""
    for name, make in (("grid", grid), ("neighbour", neighbour), ("across", across)):
        try:
            table = make(folder)
        except FileNotFoundError as error:
            print(f"{name}: not run ({error.filename})")
            continue
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        print(f"\n{name}", table.to_string(), sep="\n")


def grid(folder: Path) -> pandas.DataFrame:
    """Return each quartet measured on one GPU of two and on GPU 0 alone: do the intervals hold each other's factor?"""
    both, alone = (pandas.read_csv(folder / name / "results.csv") for name in ("both", "alone"))
    rows = []
    for _, one in both.iterrows():
        other = alone[(alone["run_name"] == one["run_name"]) & (alone["batch_size"] == one["batch_size"])].iloc[0]
        row: dict[str, Any] = {"quartet": one["run_name"], "batch_size": one["batch_size"], "device": one["device"]}
        for name, found in (("both", one), ("alone", other)):
            row |= {f"{name}_{key}": found.get(f"interaction/{key}") for key in ("factor", "low", "high")}
        for cell in ("baseline", "arch", "hw", "combined"):
            prefix = "" if cell == "combined" else f"{cell}/"
            row[f"{cell}_ratio"] = (
                one[f"{prefix}throughput/{one['boundary']}"] / (other[f"{prefix}throughput/{other['boundary']}"])
            )
        row["agree"] = row["both_low"] <= row["alone_high"] and row["alone_low"] <= row["both_high"]
        rows.append(row)
    return pandas.DataFrame(rows)


def neighbour(folder: Path) -> pandas.DataFrame:
    """Return what identical cells on GPU 0 do while GPU 1 idles and while it works, by boundary."""
    load = pandas.read_csv(folder / "load.csv")
    changes = load[load["load"].diff() != 0]
    visits = visits_of(folder / "neighbour")
    visits = visits.reindex(
        columns=[*visits, *{"gpu_sm_clock_mhz", "gpu_power_w"}.difference(visits)]
    )  # of a rehearsal
    place = np.searchsorted(changes["unix_s"], visits["unix_s"]) - 1
    began = np.searchsorted(changes["unix_s"], visits["unix_s"] - visits["visit_s"]) - 1
    visits["loaded"] = changes["load"].to_numpy()[np.maximum(place, 0)]
    visits = visits[(place == began) & (place >= 0)]  # not those during which it changed
    rows = []
    for loaded, own in visits.groupby("loaded"):
        power = load[(load["load"] == loaded) & load["power_w"].notna()]
        for boundary in BOUNDARIES:
            if f"{boundary}_ms" not in own:
                continue
            whole = own.dropna(subset=[f"{boundary}_ms"])
            table = np.log(whole.pivot_table(index=["restart", "block"], columns="cell", values=f"{boundary}_ms"))
            table = table.dropna()
            logs = sum(sign * table[cell] for cell, sign in SIGNS.items())
            rows.append({
                "neighbour": "works" if loaded else "idles", "boundary": boundary, "blocks": len(table),
                "batch_ms": float(whole[f"{boundary}_ms"].mean()),
                "sd_of_visits": float((np.log(whole[f"{boundary}_ms"])).std()), "sd_of_log_factor": float(logs.std()),
                "mean_log_factor": float(logs.mean()), "clock_mhz": float(own["gpu_sm_clock_mhz"].mean()),
                "power_w": float(own["gpu_power_w"].mean()), "host_cpu_percent": float(own["host_cpu_percent"].mean()),
                "neighbour_power_w": float(power["power_w"].mean()),
                "neighbour_clock_mhz": float(power["sm_clock_mhz"].mean()),
            })  # fmt: skip
    return pandas.DataFrame(rows)


def visits_of(folder: Path) -> pandas.DataFrame:
    """Return one row a visit: when it ended, and its mean milliseconds of each boundary."""
    samples = pandas.read_parquet(folder / "samples.parquet").astype({"cell": str, "boundary": str})
    telemetry = pandas.read_parquet(folder / "telemetry.parquet").astype({"cell": str})
    keys = ["cell", "restart", "block"]
    means = samples.groupby([*keys, "boundary"])["milliseconds"].mean().unstack("boundary").add_suffix("_ms")
    return telemetry.merge(means.reset_index(), on=keys)


def across(folder: Path) -> pandas.DataFrame:
    """Return images/s of identical cells by GPU."""
    found = pandas.read_csv(folder / "across" / "results.csv")
    rows = []
    for _, row in found.iterrows():
        boundary = row["boundary"]
        speeds = [row[f"{prefix}throughput/{boundary}"] for prefix in ("baseline/", "arch/", "hw/", "")]
        mean, spread = float(np.mean(speeds)), float(max(speeds) / min(speeds) - 1)
        rows.append({"device": row["device"], "boundary": boundary, "images_per_s": mean, "spread": spread})
    return pandas.DataFrame(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
