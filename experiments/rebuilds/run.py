"""Is it the build, or the process? One accelerated cell built several times, all builds measured side by side.

    python experiments/rebuilds/run.py --out FOLDER [--builds 12] [--processes 2] [--rounds 10]
        [--build-only] [--crowded] [tensorrt inductor]

Each build tunes on its own (a timing cache, a compile cache of its own), several at once as a sweep builds ahead
(`--jobs 1`: each alone on the machine; `--crowded`: TensorRT's may time kernels beside each other, as they did until
December 2026). All are brought up together, a process each, and visited in random order; then
all processes are replaced and it begins again. Of ln(time), a round's own mean is taken away, and what is left is split
by a nested analysis of variance: build, process of a build, visit of a process.

The same visits are an A/A control with separate builds: the builds are dealt out to the four cells of a quartet at
random, one each and several each, and `harness.stats.estimate` is asked for its verdict, which can only be false or
`independent` (or that it can't tell).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

RAMP, SLICE_S = 3, 0.25


def main() -> None:
    """Build, visit, split, and write samples, builds, variances and quartets as CSV, all engines in one file each."""
    import pandas

    from harness.system.machine import environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["tensorrt", "inductor"], metavar="ENGINE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hw", default="[fp16,fusion]", help="what the cell is accelerated by")
    parser.add_argument("--model", default="densenet121")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--builds", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=4, help="builds at once, as many as a sweep has on 16 cores")
    parser.add_argument("--crowded", action="store_true", help="no build waits for another before it times kernels")
    parser.add_argument("--processes", type=int, default=2, help="of each build, one after the other")
    parser.add_argument("--rounds", type=int, default=10, help="visits of each process")
    parser.add_argument("--build-only", action="store_true", help="build, and measure in another call")
    parser.add_argument("--device", default="cuda", help="cpu: to try the script out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "environment.json").write_text(json.dumps(environment(), indent=1))
    samples: list[dict[str, Any]] = []
    builds: list[dict[str, Any]] = []
    variances: list[dict[str, Any]] = []
    controls: list[dict[str, Any]] = []
    kernels: list[dict[str, Any]] = []
    for engine in options.engines:
        cells = built(engine, options)
        if options.build_only:
            continue
        builds += [cell_row(engine, cell) for cell in cells]
        kernels += choices(engine, cells)
        own = visited(engine, cells, options)
        samples += own
        logs = np.log([row["milliseconds"] for row in own]).reshape(options.processes, options.rounds, options.builds)
        variances += [{"engine": engine, "level": name, **found} for name, found in split(logs).items()]
        controls += [{"engine": engine} | row for row in quartets(logs)]
        tables = {
            "samples": samples,
            "builds": builds,
            "variances": variances,
            "quartets": controls,
            "choices": kernels,
        }
        for name, table in ((name, table) for name, table in tables.items() if table):
            pandas.DataFrame(table).to_csv(options.out / f"{name}.csv", index=False, float_format="%.6g")
    if options.build_only:
        return
    dealt = pandas.DataFrame(controls).groupby(["engine", "builds", "verdict"])["half_width"].agg(["count", "median"])
    for found in (pandas.DataFrame(builds), pandas.DataFrame(variances), dealt):
        print(found.to_string(), flush=True)


def built(engine: str, options: argparse.Namespace) -> list[Any]:
    """Return the cell's builds. They are numbered from 1: the one of number 0 would take known timings."""
    numbers = range(1, options.builds + 1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for number, seconds in zip(numbers, pool.map(partial(build, engine, options), numbers), strict=True):
            print(f"{engine} build {number}: {seconds:.0f} s", flush=True)
    return [replace(cell_of_build(engine, options, number), name=f"build {number}") for number in numbers]


def build(engine: str, options: argparse.Namespace, number: int) -> float:
    """Put a build into the cache, in a process of the pool; return its seconds."""
    os.environ["OMP_NUM_THREADS"] = os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(
        max(1, (os.cpu_count() or 1) // options.jobs)
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as locks:
        if options.crowded:
            os.environ["HARNESS_LOCK_DIR"] = locks
        cell_of_build(engine, options, number, references=False)
    return time.monotonic() - began


def cell_of_build(engine: str, options: argparse.Namespace, number: int, references: bool = True) -> Any:
    """Return the accelerated cell of this build, from the cache where it is there."""
    from harness.measure.progress import Silent
    from harness.sweep.build import build_quartet
    from harness.sweep.command_line import compose_jobs
    from harness.sweep.plan import plan_quartet
    from harness.system.cache import open_cache

    asked = [f"model={options.model}", f"hw={options.hw}", f"batch_size={options.batch}", f"engine={engine}"]
    (job,) = compose_jobs(asked)
    plan = plan_quartet(job.config, engine, options.device)
    alone = replace(plan, cells=plan.cells[-1:])
    (cell,) = build_quartet(alone, open_cache(job.config.cache), Silent(), number, references).values()
    return cell


def cell_row(engine: str, cell: Any) -> dict[str, Any]:
    """Return what is known of a build: two of the same bytes are the same build."""
    (artifact,) = cell.artifacts
    main_file = artifact.path / artifact.main_file
    digest = hashlib.sha256(main_file.read_bytes()).hexdigest()[:16] if main_file.is_file() else ""
    row = {"engine": engine, "build": cell.name, "build_s": cell.engine_s, "sha256": digest}
    return row | {"layers": len(layers_of(cell)) or None}


def layers_of(cell: Any) -> list[dict[str, Any]]:
    """Return what TensorRT's inspector says of an engine's layers; none of another engine."""
    from harness.engines.base import INSPECTOR_FILE

    account = cell.artifacts[0].path / INSPECTOR_FILE
    return json.loads(account.read_text())["Layers"] if account.is_file() else []


def choices(engine: str, cells: list[Any]) -> list[dict[str, Any]]:
    """Return the kernels of the layers in which builds differ: a row a layer and build, "" where it has none."""
    found = {
        cell.name: {layer["Name"]: str(layer.get("TacticName") or layer["LayerType"]) for layer in layers_of(cell)}
        for cell in cells
    }
    names = dict.fromkeys(name for layers in found.values() for name in layers)
    differing = [name for name in names if len({layers.get(name, "") for layers in found.values()}) > 1]
    return [
        {"engine": engine, "layer": name, "build": build, "kernel": layers.get(name, "")}
        for name in differing for build, layers in found.items()
    ]  # fmt: skip


def visited(engine: str, cells: list[Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the mean time of each visit, by process, round and build in this order."""
    from harness.config import ProtocolConfig
    from harness.measure.bring_up import bring_up, warm_up
    from harness.measure.cell import Turn
    from harness.measure.coordinator import workers
    from harness.measure.progress import Silent
    from harness.measure.settings import resolve_protocol

    settings = resolve_protocol(ProtocolConfig(), options.device)
    boundary = "device" if options.device == "cuda" else "wall"
    order = np.random.default_rng(settings.seed)
    rows = []
    for process in range(options.processes):
        with workers(cells) as handles:
            bring_up(cells, handles, settings, Silent())
            warm_up(handles, settings, options.device, Silent())
            for turn in range(options.rounds):
                found = {}
                for name in order.permutation(list(handles)):
                    times = handles[name].ask("slice", Turn((boundary,), RAMP, SLICE_S)).milliseconds[boundary]
                    found[str(name)] = float(np.mean(times))
                rows += [
                    {"engine": engine, "process": process, "round": turn, "build": cell.name,
                     "milliseconds": found[cell.name]}
                    for cell in cells
                ]  # fmt: skip
    return rows


def split(logs: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the standard deviation of ln(time) that each level adds, of logs [processes, rounds, builds].

    Nested analysis of variance: the mean square of a level holds that of the level below, and more by its own variance
    times the visits it is a mean of. A component below zero is none. `spread` is the largest build's mean over the
    smallest, less one.
    """
    processes, rounds, builds = logs.shape
    left = logs - logs.mean(axis=2, keepdims=True)  # what a round's builds have in common
    of_process = left.mean(axis=1)
    of_build = of_process.mean(axis=0)
    lost = builds - 1  # free differences between builds in each round
    visit = ((left - of_process[:, None, :]) ** 2).sum() / (processes * (rounds - 1) * lost)
    process = rounds * ((of_process - of_build) ** 2).sum() / ((processes - 1) * lost)
    build = rounds * processes * (of_build**2).sum() / lost
    means = np.exp(of_build)
    return {
        "build": {"sd": math.sqrt(max(0.0, build - process) / (rounds * processes)), "f_test": build / process,
                  "spread": float(means.max() / means.min() - 1)},
        "process": {"sd": math.sqrt(max(0.0, process - visit) / rounds), "f_test": process / visit},
        "visit": {"sd": math.sqrt(visit)},
    }  # fmt: skip


def quartets(logs: np.ndarray, deals: int = 40) -> list[dict[str, Any]]:
    """Return the factors of quartets whose cells are builds of the same thing, of ln(time) [processes, rounds, builds].

    One build a cell, and as many as there are for four cells; a restart is a process.
    """
    from harness.stats import estimate

    processes, rounds, builds = logs.shape
    order = np.random.default_rng(0)
    rows = []
    for each in dict.fromkeys((1, builds // 4)):
        for deal in range(deals if each else 0):
            cells = order.permutation(builds)[: 4 * each].reshape(each, 4)
            times = np.concatenate([logs[:, :, four].reshape(-1, 4) for four in cells])
            build = np.repeat(np.arange(each), processes * rounds)
            restart = np.repeat(np.arange(each * processes), rounds)
            found = estimate(np.exp(-times), restart, builds=build)
            rows.append({
                "builds": each, "deal": deal, "factor": found.factor, "low": found.low, "high": found.high,
                "half_width": found.half_width, "verdict": str(found.verdict), "reason": found.reason,
            })  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
