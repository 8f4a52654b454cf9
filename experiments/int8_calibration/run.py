"""How far the activations' range should reach: int8's methods and percentiles by what the quantised network answers.

    python -m harness.train -m model=densenet_tiny model.image_size=32 data=digits arch=none,pruned train.epochs=12
    python experiments/int8_calibration/run.py --checkpoints checkpoints --output FOLDER

Each network is quantised by the harness itself for ONNX Runtime, `hw=int8` alone, and asked on the CPU: the trained
ones for digits' test images, those with random weights for noise of another seed than they are calibrated on. Adds to
`results.csv` in FOLDER after each network; a network that is there already is skipped. No time is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from harness.engines import get
from harness.measure.cell import Cell
from harness.measure.progress import Silent
from harness.networks.data.dataset import images
from harness.results.accuracy import share
from harness.sweep.build import build_quartet
from harness.sweep.command_line import compose_jobs
from harness.sweep.plan import plan_quartet
from harness.system.cache import open_cache
from harness.techniques.arch.recipe import rebuild

BATCH, NOISE_SEED, NOISE_IMAGES = 32, 4_242, 64
PERCENTILES = (99.0, 99.9, 99.99, 99.999)
METHODS: tuple[tuple[str, float | None], ...] = (
    ("minmax", None), ("entropy", None), *(("percentile", value) for value in PERCENTILES),
)  # fmt: skip
DIGITS = ("model=densenet_tiny", "model.image_size=32", "data=digits", "model.num_classes=10")
NETWORKS: Mapping[str, tuple[str, ...]] = {
    "densenet_tiny": DIGITS,
    "densenet_tiny pruned": (*DIGITS, "arch=pruned"),
    "densenet_tiny on few images": (*DIGITS, "hw.int8.images=16"),
    "densenet_tiny pruned on few images": (*DIGITS, "arch=pruned", "hw.int8.images=16"),
    "resnet18": ("model=resnet18", "model.image_size=96", "hw.int8.images=32"),
    "mobilenet_v3_large": ("model=mobilenet_v3_large", "model.image_size=96", "hw.int8.images=32"),
}


def main() -> None:
    """Quantise and ask every network with every method; write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, required=True, help="of harness.train")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent)
    given = parser.parse_args()
    table = given.output / "results.csv"
    rows = pandas.read_csv(table).to_dict("records") if table.exists() else []
    for network in [name for name in NETWORKS if name not in {row["network"] for row in rows}]:
        rows += rows_of(network, given.checkpoints)
        pandas.DataFrame(rows).to_csv(table, index=False)


def rows_of(network: str, checkpoints: Path) -> list[dict[str, Any]]:
    """Return one row a method: what the quantised network answers against the same one in fp32."""
    rows = []
    expected: np.ndarray | None = None
    for method, percentile in METHODS:
        cell = quantised(network, checkpoints, method, percentile)
        asked, labels = inputs_of(cell)
        if expected is None:
            expected = in_fp32(cell, asked)
        row = {"network": network, "method": method, "percentile": percentile, "asked": len(asked)}
        row["calibrated_on"] = cell.levels.calibration.images if cell.levels.calibration else 0
        rows.append(row | compared(answers(cell, asked), expected, labels))
        print(rows[-1], flush=True)
    return rows


def quantised(network: str, checkpoints: Path, method: str, percentile: float | None) -> Cell:
    """Return the cell with all that is on in it, as a sweep would build it."""
    words = [*NETWORKS[network], "hw=int8", f"hw.int8.method={method}", f"batch_size={BATCH}"]
    words += [f"checkpoints.dir={checkpoints.resolve()}"]
    words += [f"hw.int8.percentile={percentile}"] if percentile is not None else []
    (job,) = compose_jobs(words)
    plan = plan_quartet(job.config, "onnxruntime", "cpu")
    plan = replace(plan, cells=plan.cells[-1:])
    (cell,) = build_quartet(plan, open_cache(job.config.cache), Silent(), references=False).values()
    return cell


def inputs_of(cell: Cell) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what a network is asked, [N, 3, S, S], and labels [N] where there are any."""
    if cell.labelled is not None:
        test = cell.labelled.test
        return test.batch(np.arange(test.count)), test.labels()
    (spec,) = cell.artifacts[0].plan.graph.inputs
    return images(NOISE_SEED, NOISE_IMAGES, spec.shape[1:]), None


def in_fp32(cell: Cell, asked: np.ndarray) -> np.ndarray:
    """Return the logits [N, C] of the cell's network in PyTorch."""
    import torch

    network = rebuild(cell.recipe)
    with torch.inference_mode():
        parts = [network(torch.from_numpy(part)) for part in np.array_split(asked, -(-len(asked) // BATCH))]
    return torch.cat(parts).numpy()


def answers(cell: Cell, asked: np.ndarray) -> np.ndarray:
    """Return the logits [N, C] of the quantised network."""
    (artifact,) = cell.artifacts
    assert not artifact.degraded, artifact.degraded
    found = []
    with get(cell.engine).load(artifact, "cpu") as executable:
        for start in range(0, len(asked), BATCH):
            batch = np.take(asked, range(start, start + BATCH), axis=0, mode="wrap")
            executable.write_inputs({executable.input_specs[0].name: batch})
            executable.enqueue(BATCH)
            executable.synchronize()
            found.append(next(iter(executable.outputs(BATCH).values())).copy())
    return np.concatenate(found)[: len(asked)]


def compared(found: np.ndarray, expected: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    """Return fidelity over all images, and the shares of right answers where there are labels."""
    x, y = found.astype(np.float64), expected.astype(np.float64)
    each = (x * y).sum(1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    out = {
        "cosine": float((x * y).sum() / (np.linalg.norm(x) * np.linalg.norm(y))),
        "lowest_cosine": float(each.min()),
        "error": float(np.abs(x - y).max() / np.abs(y).max()),
        "agreement": float((x.argmax(1) == y.argmax(1)).mean()),
    }
    if labels is not None:
        right = share(x.argmax(1) == labels)
        out |= {"top1": right.value, "top1_low": right.low, "top1_high": right.high}
        out["top1_fp32"] = float((y.argmax(1) == labels).mean())
    return out


if __name__ == "__main__":
    main()
