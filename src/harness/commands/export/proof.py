"""The proof that a folder is the cell: its loader, in a process without this project, answers as the cell does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.commands.export.folder import LOADER
from harness.config import ProtocolConfig
from harness.measure.cell import Cell
from harness.measure.coordinator import workers
from harness.measure.settings import resolve_protocol
from harness.measure.verify import compare
from harness.system.errors import CellError
from harness.techniques.arch.stages import NetworkOutputs

CHECK_INPUTS, CHECK_OUTPUTS = "check_inputs.npz", "check_outputs.npz"
# `harness` can't be imported in it: what runs here runs where nobody has it
_ALONE = """
import runpy, sys
sys.modules["harness"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def prove(folder: Path, cell: Cell, settings: ProtocolConfig) -> float:
    """Run the loader and the cell on inputs that were never timed, and keep both beside it for who checks again.

    Returns the largest difference of their answers, as a share of the answers' range. Raises CellError where it is more
    than the precision explains, or where either of them can't be run.
    """
    assert cell.expected is not None
    outputs = answers_of(cell, settings)
    compare(outputs, cell.expected, cell.artifacts[0].plan.arithmetic)
    inputs = cell.expected.inputs
    _save(folder / CHECK_INPUTS, {s.name: inputs[s.name].astype(s.dtype) for s in cell.artifacts[0].plan.graph.inputs})
    given = outputs.heads if len(cell.artifacts) == 1 else {cell.router.heads[-1]: outputs.final}
    _save(folder / CHECK_OUTPUTS, given)
    answers = run_loader(folder, list(given))
    tolerance = cell.artifacts[0].plan.arithmetic.tolerance
    return max(_difference(answers[name], expected, tolerance) for name, expected in given.items())


def _difference(answers: np.ndarray, expected: np.ndarray, tolerance: float) -> float:
    """Return the largest difference of one output, as a share of its range; raise CellError above the tolerance."""
    if answers.shape != expected.shape:
        raise CellError(f"the loader's answers have shape {answers.shape}, the cell's {expected.shape}.")
    scale = float(np.abs(expected).max()) or 1.0
    each = np.abs(answers.astype(np.float32) - expected).max(axis=tuple(range(1, answers.ndim))) / scale
    if not (each <= tolerance).all():  # so that NaN is wrong, too
        wrong = int((~(each <= tolerance)).sum())
        raise CellError(
            f"the loader answers otherwise than the cell for {wrong} of {len(each)} samples: off by "
            f"{float(np.nanmax(each)):.2g} of their range, and the precision explains at most {tolerance:g}."
        )
    return float(each.max())


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # of names that are no option of it


def answers_of(cell: Cell, settings: ProtocolConfig) -> NetworkOutputs:
    """Return what the cell answers to its verification inputs, run as it was measured, in a worker."""
    assert cell.expected is not None
    timeout_s = resolve_protocol(settings, cell.device).worker_timeout_s
    with workers([cell]) as handles:
        (handle,) = handles.values()
        handle.ask("load", None, timeout_s)
        found: NetworkOutputs = handle.ask("verify", cell.expected.inputs, timeout_s)
    return found


def run_loader(folder: Path, outputs: Sequence[str], timeout_s: float = 600.0) -> dict[str, np.ndarray]:
    """Return what the loader of a folder answers to the check's inputs; raise CellError with what it says instead."""
    written = folder / ".answers.npz"
    command = [sys.executable, "-c", _ALONE, LOADER, CHECK_INPUTS, written.name]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode or not written.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise CellError(f"the loader can't run: {lines[-1][:300] if lines else f'status {done.returncode}'}")
        with np.load(written) as found:
            return {name: found[name] for name in outputs}
    except subprocess.TimeoutExpired:
        raise CellError(f"the loader did not end within {timeout_s:g} s.") from None
    finally:
        written.unlink(missing_ok=True)
