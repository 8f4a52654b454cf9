"""The coursework's puzzle: why is the device busy for 25 to 60% of the time, now this much and now that?

A stream of Poisson requests at one rate is served by the baseline and by each technique; the busy share (of windows of
`--window-s`) comes from the record of every batch.

    python experiments/utilisation/run.py --rate-per-s 300 --out experiments/utilisation/cpu -- batch_size=8
    python experiments/utilisation/run.py --rate-per-s 40 --out experiments/utilisation/h100 -- \
        batch_size=32 scenario.min_queries=480      # at a low rate, or LoadGen waits for as many as a p99 needs

What was cut goes on with the same command; a sweep that is there is left out (resume=never measures it anew).

    python experiments/utilisation/run.py --rate-per-s 4 --out experiments/utilisation/cpu --redraw    # busy.csv again
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas

import harness
from harness.config import TrackingConfig
from harness.report.figures.canvas import svg_text, write_whole
from harness.serving.records import BatchRecord
from harness.system.errors import UserError
from harness.tracking import find_store

ARCH = "none,early_exit,reduced_growth,low_rank,grouped,pruned"
HW = "fp16,fusion,dynamic_batching"
BLUE, ORANGE = "#0072B2", "#D55E00"


def sweep(name: str, arch: str, hw: str, rate_per_s: float, overrides: list[str]) -> None:
    """Serve the stream with each of these."""
    command = [sys.executable, "-m", "harness", "-m", f"arch={arch}", f"hw={hw}", f"sweep_name={name}",
               "scenario=server", f"scenario.rate_per_s={rate_per_s}", "scenario.repeats=1",
               "scenario.min_duration_s=12", *overrides]  # fmt: skip
    status = subprocess.run(command).returncode
    if status not in (0, 1):  # 1: some quartet is FAILED, with its reason; what was served is drawn
        sys.exit(status)


def is_there(name: str, quartets: int) -> bool:
    """Return whether all quartets of a sweep are finished."""
    try:
        found = harness.load(name)
    except UserError:
        return False
    return len(found) == quartets and set(found["status"]) == {"FINISHED"}


def served(names: list[str], window_s: float, out: Path) -> tuple[pandas.DataFrame, dict[str, np.ndarray]]:
    """Return one row a technique (the cell that has it on), and its busy share by window."""
    client = find_store(TrackingConfig()).client()
    rows, shares = [], {}
    frame = pandas.concat([harness.load(name) for name in names])
    for row in frame[frame["status"] == "FINISHED"].itertuples():
        batches = pandas.read_parquet(client.download_artifacts(row.run_id, "batches.parquet"))
        shutil.copy(client.download_artifacts(row.run_id, "environment.json"), out / "environment.json")
        metrics = client.get_run(row.run_id).data.metrics
        technique = row.arch if row.arch != "none" else row.hw
        for cell, prefix in {"baseline": "baseline/", "arch": "arch/", "hw": "hw/"}.items():
            own = batches[batches["cell"] == cell]
            label = "baseline" if cell == "baseline" else technique
            if own.empty or label in shares:
                continue
            columns = ("stage", "started_s", "completed_s", "requests", "executed")
            record = BatchRecord(*(own[name].to_numpy() for name in columns))
            shares[label] = record.busy_share(window_s)
            # a lone baseline has its metrics without a prefix
            found = {name: metrics.get(f"{prefix}{name}", metrics.get(name)) for name in (
                "load/utilisation", "load/mean_batch_size", "load/padding_share", "load/queue_ms", "load/compute_ms",
                "load/exit_rate", "latency_ms/p50", "latency_ms/p99")}  # fmt: skip
            low, high = np.quantile(shares[label], (0.05, 0.95))
            rows.append({"technique": label, **found, "busy_p5": low, "busy_p95": high, "batches": len(own)})
    return pandas.DataFrame(rows), shares


def draw(shares: dict[str, np.ndarray], window_s: float, rate_per_s: float, path: Path) -> None:
    """Draw the busy share over time, one panel a technique over the baseline's."""
    techniques = [name for name in shares if name != "baseline"]
    height = 1.25 * len(techniques) + 0.9
    figure, axes = plt.subplots(len(techniques), 1, figsize=(9, height), sharex=True, sharey=True, squeeze=False)
    for axis, name in zip(axes[:, 0], techniques, strict=True):
        for label, colour in (("baseline", "0.6"), (name, BLUE)):
            share = shares[label]
            edges = np.arange(len(share) + 1) * window_s
            axis.stairs(100 * share, edges, baseline=None, color=colour, lw=1.3)
            axis.axhline(100 * share.mean(), color=colour, lw=0.8, ls=":")
        axis.set_ylim(0, 105)
        means = f"{100 * shares[name].mean():.0f}% busy (baseline {100 * shares['baseline'].mean():.0f}%)"
        axis.set_title(f"{name}: {means}", loc="left", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel(f"seconds of a Poisson stream of {rate_per_s:g} requests/s")
    figure.supylabel(f"busy, % of each {window_s:g} s")
    figure.tight_layout()
    write_whole(path, svg_text(figure).encode())


def write_shares(shares: dict[str, np.ndarray], window_s: float, path: Path) -> None:
    """Write one row a window, so that the figure can be drawn without the run's store; streams differ in length."""
    frame = pandas.DataFrame({name: pandas.Series(share) for name, share in shares.items()})
    frame.insert(0, "from_s", np.arange(len(frame)) * window_s)
    frame.round(4).to_csv(path, index=False)


def read_shares(path: Path) -> tuple[dict[str, np.ndarray], float]:
    """Return the busy shares that `write_shares` wrote, and the seconds of a window."""
    frame = pandas.read_csv(path).set_index("from_s")
    return {name: frame[name].dropna().to_numpy() for name in frame}, float(frame.index[1])


def main() -> None:
    """Serve, then write results.csv, busy.csv, its figure and the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate-per-s", type=float, required=True)
    parser.add_argument("--window-s", type=float, default=0.25)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--no-run", action="store_true", help="only draw what was served before")
    parser.add_argument("--redraw", action="store_true", help="only draw what busy.csv holds; no store is needed")
    parser.add_argument("overrides", nargs="*", help="model=..., batch_size=..., engine=...")
    options = parser.parse_args()
    if not options.redraw:
        measure(options)
    shares, window_s = read_shares(options.out / "busy.csv")
    draw(shares, window_s, options.rate_per_s, options.out / "busy.svg")


def measure(options: argparse.Namespace) -> None:
    """Serve what is not served yet, and write its tables."""
    options.out.mkdir(parents=True, exist_ok=True)
    names = [f"utilisation_arch_{options.out.name}", f"utilisation_hw_{options.out.name}"]
    if not options.no_run:
        for name, arch, hw, other in ((names[0], ARCH, "none", "hw."), (names[1], "none", HW, "arch.")):
            quartets = (arch.count(",") + 1) * (hw.count(",") + 1)
            if "resume=never" not in options.overrides and is_there(name, quartets):
                continue
            # an option of a technique that is on nowhere is refused
            sweep(name, arch, hw, options.rate_per_s, [one for one in options.overrides if not one.startswith(other)])
    frame, shares = served(names, options.window_s, options.out)
    frame.round(4).to_csv(options.out / "results.csv", index=False)
    write_shares(shares, options.window_s, options.out / "busy.csv")
    print(frame.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
