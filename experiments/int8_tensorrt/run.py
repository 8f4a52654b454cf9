"""Eight bits and bf16 on TensorRT: each model of conf/model built at level 0, run, and compared with eager fp32.

    python experiments/int8_tensorrt/run.py --out FOLDER [MODEL:HW[:BATCH] ...]

Says how many of the convolutions and products TensorRT's inspector finds in eight bits, which were left and why, and
how far the answers are from fp32's. Weights are random and so are the images that calibrate: nothing is said of
accuracy, nor of speed.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

CELLS = (
    "densenet_tiny:int8:8", "densenet121:int8:32", "densenet121:[int8,fp16]:32", "resnet50:int8", "vit_b_16:int8",
    "mobilenet_v3_large:int8", "efficientnet_b0:int8", "convnext_tiny:int8", "resnet50:[int8,fp16]",
    "densenet121:bf16:32", "vit_b_16:bf16",
)  # fmt: skip
COLUMNS = (
    "layers_weighted", "layers_in_precision", "kernels_weighted", "kernels_int8", "layers_in_float", "engine_bytes"
)  # fmt: skip


def main() -> None:
    """Build, run and compare what is asked for; write results.csv after each."""
    import pandas

    from harness.system.machine import environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="MODEL:HW[:BATCH]", help=f"default: {' '.join(CELLS)}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engine", default="tensorrt")
    parser.add_argument("--device", default="cuda", help="cpu: to try the script out")
    parser.add_argument("--images", type=int, default=16, help="to calibrate on")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "environment.json").write_text(json.dumps(environment(), indent=1))
    rows = []
    for cell in options.cells or CELLS:
        model, hw, batch = (*cell.split(":"), "4")[:3]
        rows.append({"model": model, "hw": hw, "batch_size": int(batch), **found(model, hw, batch, options)})
        print(json.dumps(rows[-1]), flush=True)
        pandas.DataFrame(rows).to_csv(options.out / "results.csv", index=False, float_format="%.6g")


def found(model: str, hw: str, batch: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what became of one cell: the reason where it failed."""
    from harness.engines import get
    from harness.measure.progress import Silent
    from harness.measure.runner import Runner
    from harness.measure.verify import compare
    from harness.sweep.build import build_quartet
    from harness.sweep.command_line import compose_jobs
    from harness.sweep.plan import plan_quartet
    from harness.system.cache import open_cache
    from harness.system.errors import CellError, UserError

    asked = [f"model={model}", f"hw={hw}", f"batch_size={batch}", f"engine={options.engine}", "reference=engine"]
    asked += ["engine.builder_level=0"] if options.engine == "tensorrt" else []
    asked += [f"hw.int8.images={options.images}"] if "int8" in hw else []
    began = time.monotonic()
    row: dict[str, Any] = {}
    try:
        (job,) = compose_jobs(asked)
        plan = plan_quartet(job.config, options.engine, options.device)
        cell = build_quartet(plan, open_cache(job.config.cache), Silent())["hw"]
        with ExitStack() as stack:
            engines = tuple(
                stack.enter_context(get(artifact.plan.engine).load(artifact, options.device))
                for artifact in cell.artifacts
            )
            answers = Runner(engines, cell.router, int(batch)).verify(cell.expected.inputs)
            (artifact,) = cell.artifacts
            row |= {name: artifact.proof.get(name) for name in COLUMNS}
            row |= {"degraded": "; ".join(cell.degraded)}
            far = compare(answers, cell.expected, artifact.plan.arithmetic)
        row |= {"max_relative_error": far.max_relative, "cosine": far.cosine, "top1_agreement": far.top1_agreement}
    except (CellError, UserError) as error:
        row["failed"] = str(error)
    return row | {"seconds": round(time.monotonic() - began)}


if __name__ == "__main__":
    main()
