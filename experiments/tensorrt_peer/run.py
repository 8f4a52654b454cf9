"""TensorRT at its best beside Inductor and our dense blocks: DenseNet121 in fp16, one card, one run, side by side.

    python experiments/tensorrt_peer/run.py --out FOLDER [--batch 256] [--rounds 40] [--build-limit-s 600] [CELL ...]

Every cell is built as a sweep builds it, verified against fp32 eager, warmed up, and then visited in random order, each
in a process of its own; the figure is device time of captured graphs. Ratios are to the fastest TensorRT cell, with the
95% interval of the mean log-ratio over rounds: of one build each.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ON = "hw=[fp16,fusion]"
PRUNED = ("arch=pruned", "arch.pruned.round_to=32")  # whole tiles of the tensor cores, as the study of the H100
CELLS: dict[str, tuple[str, ...]] = {
    "tensorrt level 3": ("engine=tensorrt", ON, "engine.builder_level=3"),
    "tensorrt level 3, NHWC input": ("engine=tensorrt", ON, "engine.builder_level=3", "engine.channels_last=true"),
    "tensorrt highest level": ("engine=tensorrt", ON, "engine.builder_level=5"),
    "inductor": ("engine=inductor", ON),
    "inductor, our dense blocks": ("engine=inductor", ON, "hw.fusion.dense_blocks=true"),
    "inductor, our dense blocks, pruned": ("engine=inductor", ON, "hw.fusion.dense_blocks=true", "arch=pruned"),
    "inductor, our dense blocks, pruned to 32": ("engine=inductor", ON, "hw.fusion.dense_blocks=true", *PRUNED),
    "tensorrt level 3, pruned to 32": ("engine=tensorrt", ON, "engine.builder_level=3", *PRUNED),
}
SLICE_S, RAMP = 0.25, 3


def main() -> None:
    """Build, verify, time, and write samples.csv and results.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"default: all of {', '.join(CELLS)}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--build-limit-s", type=float, default=600.0)
    parser.add_argument("--device", default="cuda", help="cpu: to try the script out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cells, rows = [], {}
    for name in options.cells or CELLS:
        cell, rows[name] = ready(name, CELLS[name], options)
        if cell is not None:
            cells.append(cell)
        print(name, json.dumps(rows[name]), flush=True)
    samples = timed(cells, options)
    write(samples, rows, options)


def ready(name: str, overrides: tuple[str, ...], options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return what a worker is to load and what is known of its build; None and the reason where it can't be built."""
    from harness.measure.progress import Silent
    from harness.sweep.build import build_quartet
    from harness.sweep.command_line import compose_jobs
    from harness.sweep.plan import plan_quartet
    from harness.system.cache import open_cache
    from harness.system.errors import CellError, UserError

    asked = [*overrides, f"batch_size={options.batch}", f"engine.build_limit_s={options.build_limit_s}"]
    (job,) = compose_jobs(asked)
    try:
        plan = plan_quartet(job.config, job.config.engine.name, options.device)
        wanted = replace(plan, cells=plan.cells[-1:])  # the one with everything on
        (cell,) = build_quartet(wanted, open_cache(job.config.cache), Silent()).values()
    except (CellError, UserError) as error:
        return None, {"failed": str(error)}
    proof = cell.artifacts[0].proof
    found = {
        "build_s": cell.engine_s,
        "builder_level": proof.get("builder_level"),
        "degraded": "; ".join(cell.degraded),
    }
    return replace(cell, name=name), found


def timed(cells: list[Any], options: argparse.Namespace) -> dict[str, list[float]]:
    """Return each cell's milliseconds a batch, one figure a round; all cells are visited in every round."""
    from harness.config import ProtocolConfig
    from harness.measure.bring_up import bring_up, warm_up
    from harness.measure.cell import Turn
    from harness.measure.coordinator import workers
    from harness.measure.progress import Silent
    from harness.measure.settings import resolve_protocol

    settings = resolve_protocol(ProtocolConfig(), options.device)
    boundary = "device" if options.device == "cuda" else "wall"
    order = np.random.default_rng(settings.seed)
    milliseconds: dict[str, list[float]] = {cell.name: [] for cell in cells}
    with workers(cells) as handles:
        loaded, _ = bring_up(cells, handles, settings, Silent())
        lacking = {role: cell.no_device for role, cell in loaded.items() if boundary not in cell.boundaries}
        if lacking:
            raise SystemExit(f"no {boundary} boundary: {lacking}")
        warm_up(handles, settings, options.device, Silent())
        for _ in range(options.rounds):
            for role in order.permutation(list(handles)):
                found = handles[role].ask("slice", Turn((boundary,), RAMP, SLICE_S)).milliseconds[boundary]
                milliseconds[role].append(float(np.mean(found)))
    return milliseconds


def write(samples: dict[str, list[float]], rows: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    """Write and print images/s of each cell and its ratio to the fastest TensorRT cell."""
    import pandas

    from harness.stats.intervals import mean_interval
    from harness.system.machine import environment

    speeds = {role: options.batch / np.array(times) * 1e3 for role, times in samples.items()}
    peers = [role for role in speeds if role.startswith("tensorrt") and "pruned" not in role] or list(speeds)
    best = max(peers, key=lambda role: float(np.median(speeds[role])))
    for role, speed in speeds.items():
        found = mean_interval(np.log(speed) - np.log(speeds[best]))
        ratio, half = float(found.mean), float(found.half_width(0.95))
        rows[role] |= {"images_per_s": float(np.median(speed)), "beside": best, "ratio": math.exp(ratio)}
        rows[role] |= {"ratio_low": math.exp(ratio - half), "ratio_high": math.exp(ratio + half)}
    frame = pandas.DataFrame([{"cell": name, "batch_size": options.batch, **row} for name, row in rows.items()])
    frame.to_csv(options.out / "results.csv", index=False, float_format="%.6g")
    table = pandas.DataFrame(samples).rename_axis("round").reset_index().melt("round", var_name="cell", value_name="ms")
    table.to_csv(options.out / "samples.csv", index=False, float_format="%.5f")
    (options.out / "environment.json").write_text(json.dumps(environment(), indent=1))
    print(frame.to_string(), flush=True)


if __name__ == "__main__":
    main()
