"""Does our clock agree with other people's, on the same executable, in one run? Status 1 if one of them says no.

python experiments/agreement/run.py [--engine eager] [--batch-size N] [--out FOLDER] [model=densenet121 ...]
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from output import folder_name, write
from prepared import prepared
from rich.console import Console
from rounds import Asked, Measured, measure
from summary import missed, summarise, table

from harness.measure.cell import Cell, QuartetPlan
from harness.measure.lock import device_id, device_lock
from harness.system.command import quiet
from harness.system.errors import CellError, UserError

DEFAULTS = {"cpu": (16, 1.0), "cuda": (10, 0.15)}  # rounds, and seconds of a slice


def main() -> int:
    """Prepare one cell, have it measured in a process of its own, print, write, and return the exit status."""
    options = _options()
    quiet()
    try:
        plan, cell = prepared(options.engine, options.batch_size, options.overrides)
        rounds, slice_s = DEFAULTS[plan.device]
        asked = Asked(options.rounds or rounds, options.slice_s or slice_s, options.seed)
        measured = _measured(plan, cell, asked)
    except (CellError, UserError) as error:
        print(f"agreement: {error}", file=sys.stderr)
        return 2

    rows = summarise(measured.readings)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    model, batch_size = plan.config.model.name, plan.config.batch_size
    console.print(table(rows, f"{model}, batch {batch_size}, {plan.engine} on {plan.device}"))
    for one in measured.absent:
        console.print(
            f"absent: {one.clock} ({one.boundary}): {one.reason}", highlight=False, markup=False, soft_wrap=True
        )
    folder = options.out or Path(__file__).parent / folder_name(plan.device, plan.engine)
    study = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model,
        "engine": plan.engine,
        "batch_size": batch_size,
        "overrides": options.overrides,
        "rounds": asked.rounds,
        "slice_s": asked.slice_s,
        "seed": asked.seed,
        "executable": measured.facts,
    }
    write(folder, rows, measured.absent, measured.readings, {"study": study})
    console.print(f"written to {folder}", highlight=False, soft_wrap=True)
    compared = any(reading.kind == "clock" for reading in measured.readings)
    broken = any(one.broken for one in measured.absent)
    return 1 if missed(rows) or broken or not compared else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="harness's own, e.g. model=densenet_tiny precision.tf32=true")
    parser.add_argument("--engine", default="eager", help="eager, onnxruntime, inductor (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, help="default: 16 on a CPU, 10 on a GPU")
    parser.add_argument("--slice-s", type=float, help="seconds of a slice (default: 1 on a CPU, 0.15 on a GPU)")
    parser.add_argument("--seed", type=int, default=1, help="of the order within a round (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder of the results (default: this study's, by machine and engine)")
    return parser.parse_intermixed_args()


def _measured(plan: QuartetPlan, cell: Cell, asked: Asked) -> Measured:
    """Measure in a fresh process: nothing of the export is left in it, and LoadGen can take only that one down."""
    # a worker's settings (harness.measure.worker); torch reads them when it is imported, so they come first
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0", KMP_BLOCKTIME="0")
    if cell.threads:
        os.environ.update(OMP_NUM_THREADS=str(cell.threads), MKL_NUM_THREADS=str(cell.threads))
    with device_lock(device_id(plan.device)), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, cell, plan.config.protocol, asked, os.getpid()).result()
        except BrokenProcessPool:
            raise CellError("the measuring process died; its last words are above") from None


if __name__ == "__main__":
    sys.exit(main())
