"""Verification: a cell's outputs against the same architecture in fp32 eager. A wrong engine has no speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.system.counts import counted
from harness.system.errors import CellError
from harness.techniques.arch.stages import ONE_STAGE, NetworkOutputs, Router
from harness.techniques.levels import HALF_TOLERANCE, Precision

MIN_COSINE = 0.98


@dataclass(frozen=True)
class Expected:
    """The reference: every head of the network for the verification inputs, [N, classes] float32."""

    inputs: np.ndarray  # [N, channels, height, width] float32
    heads: dict[str, np.ndarray]
    left_after: np.ndarray | None = None  # [N] int: the stage after which each leaves; None: there is only one
    router: Router = ONE_STAGE  # that decided it


@dataclass(frozen=True)
class Fidelity:
    """How close a cell's outputs are to the reference, over all heads."""

    max_abs: float
    max_relative: float  # max_abs over the largest magnitude of the reference
    cosine: float  # the lowest over heads
    top1_agreement: float  # share of samples, over all heads
    routing: Mapping[str, float] = field(default_factory=dict)  # decisions that differ, by the router's metric


def compare(outputs: NetworkOutputs, expected: Expected, precision: Precision) -> Fidelity:
    """Return the fidelity; raise CellError where a head is further off than what it is computed in explains."""
    worst_abs = worst_relative = 0.0
    cosine = 1.0
    agreements = []
    for name, reference in expected.heads.items():
        got = outputs.heads[name]
        if got.shape != reference.shape:
            raise CellError(f"wrong output: {name!r} has shape {got.shape}, the reference {reference.shape}")
        error = float(np.abs(got - reference).max())
        scale = float(np.abs(reference).max()) or 1.0
        head_cosine = _cosine(got, reference)
        if not (error <= precision.tolerance * scale and head_cosine >= MIN_COSINE):  # so that NaN is wrong, too
            raise CellError(
                f"wrong output: {name!r} is off by {error / scale:.2g} of its range (cosine {head_cosine:.4f}); "
                f"{precision.name} explains at most {precision.tolerance:g}"
            )
        worst_abs, worst_relative = max(worst_abs, error), max(worst_relative, error / scale)
        cosine = min(cosine, head_cosine)
        agreements.append(float((got.argmax(1) == reference.argmax(1)).mean()))
    routing = {}
    if outputs.left_after is not None and expected.left_after is not None:
        routing = expected.router.fidelity_metrics(outputs.left_after, expected.left_after)
        _check_routing(outputs, outputs.left_after)
    return Fidelity(worst_abs, worst_relative, cosine, float(np.mean(agreements)), routing)


def _check_routing(outputs: NetworkOutputs, left_after: np.ndarray) -> None:
    """Check that each sample's final answer is the one of the head after which it left."""
    chosen = np.stack(list(outputs.heads.values()))[left_after, np.arange(len(left_after))]
    scale = float(np.abs(chosen).max()) or 1.0
    # a later stage ran on another batch size here than in the check of its head: kernels may differ in rounding
    wrong = ~(np.abs(outputs.final - chosen).max(axis=1) <= HALF_TOLERANCE * scale)
    if wrong.any():
        raise CellError(
            f"wrong output: {int(wrong.sum())} of {counted(len(wrong), 'sample')} got another sample's or head's answer"
        )


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of two arrays as flat vectors, in float64."""
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm else float(norm == 0 and not x.any() and not y.any())
