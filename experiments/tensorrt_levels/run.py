"""Which builder level pays: seconds, size and speed of DenseNet121 at each of TensorRT's levels, on one card.

    python experiments/tensorrt_levels/run.py --out FOLDER [--stop-after-s 800] fp16:0 fp16:3 fp16:3:warm fp32:0 tf32:0

Each build runs alone, in a process of its own, from a timing cache of its own (`warm`: from the one that this level
left before; `after-fp32_0_b32`: from the one of that build, whose seconds are then to be added). Then all engines are
timed side by side, each in a process of its own: rounds in random order, captured graphs, device time. (Eight graphs in
one process took 59 to 79 us more a batch than each of them alone.) `plain`: the graph as it was exported, its
concatenations not nested. What was built before is kept: a second call adds to it, without cells it times only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS, SLICE_S, WARMUP_S = 24, 0.05, 0.5
SEED = 20261129


def main() -> None:
    """Build what is asked for and not there yet, then time all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="PRECISION:LEVEL[:warm|:plain|:after-BUILD]")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/tensorrt_levels"), help="engines and timing caches")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--limit-s", type=float, default=400.0, help="of one build")
    parser.add_argument("--build-only", action="store_true", help="time nothing")
    parser.add_argument("--stop-after-s", type=float, default=1e9, help="no build goes on after so many seconds")
    options = parser.parse_args()
    started = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    graphs = exported(options.batch, options.work)
    for cell in options.cells:
        left = options.stop_after_s - (time.monotonic() - started)
        if left < 30:
            print("no time for", cell, flush=True)
        elif not (options.work / name_of(cell, options.batch) / "built.json").is_file():
            print(json.dumps(built(cell, graphs, options, min(options.limit_s, left))), flush=True)
    if not options.build_only:
        time_all(options.work, options.out, options.batch, graphs)
    in_a_process(merge_timings, options.work, options.out)


def name_of(cell: str, batch: int) -> str:
    """Return the folder of a build: "fp16_3_b32", "fp16_3_warm_b32"."""
    return f"{cell.replace(':', '_')}_b{batch}"


def exported(batch: int, work: Path) -> dict[str, Any]:
    """Return the plans of DenseNet121 in fp32 and in fp16, exported as a sweep exports them."""
    from harness.engines.export import export
    from harness.sweep.build import _request
    from harness.sweep.command_line import compose_jobs
    from harness.sweep.plan import build_plan, plan_quartet
    from harness.system.cache import Cache
    from harness.techniques.arch.assembled import network

    (job,) = compose_jobs([f"batch_size={batch}", "hw=fp16", "engine=tensorrt", "reference=engine"])
    plan = plan_quartet(job.config, "tensorrt", "cuda")
    found = {}
    for cell, name in zip(plan.cells, ("fp32", "fp16"), strict=True):
        net = network(job.config.model, cell.arch)
        (stage,) = net.stages
        graph, _, _ = export(stage.module, net.fingerprint, _request(stage, cell, net, ""), Cache(work / "cache"))
        found[name] = replace(build_plan(plan, cell, graph), cuda_graph=True)
    return found


def built(cell: str, graphs: dict[str, Any], options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """Build one engine in a process of its own; return what became of it."""
    precision, level, *how = cell.split(":")
    folder = options.work / name_of(cell, options.batch)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before = [name.removeprefix("after-") for name in how if name.startswith("after-")]
    before += [name_of(f"{precision}:{level}", options.batch)] if "warm" in how else []
    for name in before:
        shutil.copytree(options.work / name / "timing", folder / "timing")
    plan = plan_of(cell, graphs, folder, limit_s)
    return in_a_process(build, plan, folder, "plain" not in how, cell)


def plan_of(cell: str, graphs: dict[str, Any], folder: Path, limit_s: float) -> Any:
    """Return what the builder is asked for."""
    precision, level, *_ = cell.split(":")
    return replace(
        graphs["fp16" if precision == "fp16" else "fp32"],
        fusion="max",
        tf32=precision == "tf32",
        options=(("build_limit_s", limit_s), ("builder_level", int(level)), ("timing_cache", "shared")),
        timing_dir=str(folder / "timing"),
    )


def build(plan: Any, folder: Path, nested: bool, cell: str) -> dict[str, Any]:
    """Build, write `built.json` and the artifact; seconds are those from the level's start to its end."""
    from harness.engines.base import listen_to_builds
    from harness.engines.tensorrt import TENSORRT, TENSORRT_FLAVOUR, builder
    from harness.system.errors import CellError

    marks: list[tuple[float, str]] = []
    listen_to_builds(lambda kind, text: marks.append((time.monotonic(), f"{kind} {text}")))
    row: dict[str, Any] = {
        "cell": cell,
        "batch_size": plan.batch.opt_size,
        "limit_s": dict(plan.options)["build_limit_s"],
    }
    begun = time.monotonic()
    try:
        flavour = replace(TENSORRT_FLAVOUR, nests_concatenations=nested)
        artifact = builder.build(flavour, plan, TENSORRT.target(plan), folder)
        row |= {"engine_mb": artifact.size_mb, "version": artifact.engine_version, **artifact.proof}
    except CellError as error:
        row["failed"] = str(error)
    compiled_from = next((at for at, text in marks if text.startswith("attempt level")), begun)
    row |= {"build_s": time.monotonic() - compiled_from, "start_s": compiled_from - begun, "messages": len(marks)}
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(marks)]
    row["longest_silence_s"] = max(gaps, default=0.0)
    (folder / "phases.txt").write_text("\n".join(f"{at - begun:8.1f} {text}" for at, text in marks))
    (folder / "built.json").write_text(json.dumps(row))
    return row


def time_all(work: Path, out: Path, batch: int, graphs: dict[str, Any]) -> None:
    """Time every engine of a batch size that was built, side by side; write results.csv and samples.csv."""
    rows = {path.parent.name: json.loads(path.read_text()) for path in sorted(work.glob(f"*_b{batch}/built.json"))}
    context = multiprocessing.get_context("spawn")
    pipes, processes, answers = {}, [], {}
    for name, row in rows.items():
        if (work / name / "model.engine").is_file():
            pipes[name], theirs = context.Pipe()
            plan = plan_of(row["cell"], graphs, work / name, row["limit_s"])
            processes.append(context.Process(target=hold, args=(theirs, plan, work / name, row, batch)))
            processes[-1].start()
            theirs.close()
            found, answers[name] = pipes[name].recv()
            row |= found
    order, samples = random.Random(SEED), []
    for turn in range(ROUNDS):
        for name in order.sample(sorted(pipes), len(pipes)):
            pipes[name].send("slice")
            samples.append({"cell": rows[name]["cell"], "round": turn, "batch_ms": pipes[name].recv()})
    for pipe in pipes.values():
        pipe.send("end")
    for process in processes:
        process.join()
    exact = next((answers[name] for name in answers if name.startswith("fp32_0")), None)
    for name, answer in answers.items():
        if exact is not None:
            rows[name]["max_relative_error"] = float(np.abs(answer - exact).max() / np.abs(exact).max())
        rows[name]["batch_ms_by_events"] = by_events(work / name / "model.engine")  # by other means, on the same file
    write_tables(rows, samples, out, batch)


def hold(pipe: Any, plan: Any, folder: Path, row: dict[str, Any], batch: int) -> None:
    """Load an engine, run and capture it; then time a slice whenever told to. Sends what it is and what it computes."""
    from harness.engines.base import Artifact
    from harness.engines.tensorrt import TENSORRT
    from harness.measure.clocks import device_slice

    inputs = np.random.default_rng(SEED).standard_normal((batch, 3, 224, 224)).astype(np.float32)
    artifact = Artifact(plan, folder, "model.engine", row["version"], row["engine_mb"], row)
    began = time.monotonic()
    with TENSORRT.load(artifact, "cuda") as engine:
        found = {"load_s": time.monotonic() - began, "kernels": engine.kernel_count()}
        engine.write_inputs({engine.input_specs[0].name: inputs})
        engine.poison_outputs()
        engine.enqueue(batch)
        engine.synchronize()
        answer = engine.outputs(batch)["logits"]
        engine.capture(batch)
        device_slice(lambda: engine.replay(batch), engine.stream, 5, WARMUP_S)
        pipe.send((found | {"layers": engine.proof["engine_layers"]}, answer))
        while pipe.recv() == "slice":
            times = device_slice(lambda: engine.replay(batch), engine.stream, 3, SLICE_S)
            pipe.send(sum(times) / len(times))


def write_tables(rows: dict[str, Any], samples: list[dict[str, Any]], out: Path, batch: int) -> None:
    """Write what was built and how fast it is, the samples and the machine; show a short table."""
    import pandas

    from harness.system.machine import environment

    frame = pandas.DataFrame(samples)
    for row in rows.values():
        own = frame.loc[frame["cell"] == row["cell"], "batch_ms"] if len(frame) else ()
        if len(own):
            row["batch_ms"] = float(own.median())
            row["images_per_s"] = batch / float(own.median()) * 1e3
            row["images_per_s_low"], row["images_per_s_high"] = (
                batch / float(own.quantile(q)) * 1e3 for q in (0.9, 0.1)
            )
    frame.to_csv(out / f"samples_b{batch}.csv", index=False, float_format="%.5f")
    table = pandas.DataFrame(rows.values())
    table.to_csv(out / f"results_b{batch}.csv", index=False, float_format="%.6g")
    (out / "environment.json").write_text(json.dumps(environment(), indent=1))
    shown = (
        "cell", "build_s", "engine_mb", "layers", "kernels", "images_per_s", "load_s", "max_relative_error", "failed",
        "batch_ms", "batch_ms_by_events",
    )  # fmt: skip
    print(table[[name for name in shown if name in table]].to_string(), flush=True)


def by_events(engine: Path) -> float:
    """Return a batch's milliseconds by a script that uses tensorrt and CUDA's events alone; NaN where it fails."""
    script = Path(__file__).parents[1] / "agreement" / "tensorrt_events.py"
    done = subprocess.run([sys.executable, str(script), str(engine)], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-500:], flush=True)
    return float(done.stdout) if done.returncode == 0 else float("nan")


def merge_timings(work: Path, out: Path) -> None:
    """Put what all builds timed into one file, as the cache of a sweep keeps it."""
    from harness.engines.tensorrt import TENSORRT_FLAVOUR
    from harness.engines.tensorrt.loading import logger_of

    trt = TENSORRT_FLAVOUR.module()
    files = sorted(work.glob("*/timing/*.timing"))
    builder = trt.Builder(logger_of(TENSORRT_FLAVOUR)[0])
    config = builder.create_builder_config()
    merged = config.create_timing_cache(b"")
    config.set_timing_cache(merged, False)
    for file in files:
        merged.combine(config.create_timing_cache(file.read_bytes()), False)
    if files:
        (out / files[0].name).write_bytes(bytes(merged.serialize()))
    print(f"{len(files)} timing caches, together {len(bytes(merged.serialize())) / 1e6:.1f} MB", flush=True)


def _answer(connection: Any, call: Any, arguments: tuple[Any, ...]) -> None:
    from harness.system.command import quiet

    quiet()
    connection.send(call(*arguments))


def in_a_process(call: Any, *arguments: Any) -> Any:
    """Return call(*arguments), made in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, call, arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return {"failed": "its process died"}
    finally:
        process.join()


if __name__ == "__main__":
    main()
