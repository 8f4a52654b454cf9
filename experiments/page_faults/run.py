"""Do identical eager processes differ for as long as they live? Time and page faults a batch, with and without the fix.

python experiments/page_faults/run.py

Four processes of the same DenseNet121 (random weights, eager, on a CPU) take turns; once with glibc's defaults and
once with `harness.measure.worker.keep_freed_memory`. Writes results.csv and environment.json beside this script.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pandas

from harness.measure.worker import keep_freed_memory
from harness.system.machine import environment

PROCESSES, ROUNDS, WARMUP_ROUNDS, BATCHES_A_TURN, BATCH_SIZE, THREADS = 4, 8, 2, 2, 8, 2


def serve(connection: Connection, keep: bool) -> None:
    """Run batches when told to; answer with milliseconds, page faults, system and user milliseconds a batch."""
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0")
    if keep and not keep_freed_memory():
        raise SystemExit("this C library has no mallopt")
    import torch
    import torchvision

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    module, images = torchvision.models.densenet121(weights=None).eval(), torch.randn(BATCH_SIZE, 3, 224, 224)
    with torch.inference_mode():
        while connection.recv():
            module(images)
            before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            for _ in range(BATCHES_A_TURN):
                module(images)
            seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
            spent = (
                1e3 * seconds,
                after.ru_minflt - before.ru_minflt,
                1e3 * (after.ru_stime - before.ru_stime),
                1e3 * (after.ru_utime - before.ru_utime),
            )
            connection.send([value / BATCHES_A_TURN for value in spent])


def measure(keep: bool) -> list[dict[str, object]]:
    """Return one row a turn, the warm-up left out."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for _ in range(PROCESSES):
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, keep), daemon=True).start()
        pipes.append(ours)
    names = ("milliseconds", "page_faults", "system_ms", "user_ms")
    rows = []
    for turn in range(ROUNDS):
        for process, pipe in enumerate(pipes):
            pipe.send(True)
            values = dict(zip(names, pipe.recv(), strict=True))
            if turn >= WARMUP_ROUNDS:
                rows.append({"kept": keep, "process": process, "turn": turn, **values})
    for pipe in pipes:
        pipe.send(False)
    return rows


def main() -> None:
    """Print the medians of each process and write every turn."""
    frame = pandas.DataFrame([row for keep in (False, True) for row in measure(keep)])
    folder = Path(__file__).parent
    for name, text in (
        ("results.csv", frame.to_csv(index=False)),
        ("environment.json", json.dumps(environment(), indent=1)),
    ):
        temporary = folder / f".{name}"
        temporary.write_text(text)
        os.replace(temporary, folder / name)
    print(frame.groupby(["kept", "process"]).median().drop(columns="turn").round(0).to_string())


if __name__ == "__main__":
    main()
