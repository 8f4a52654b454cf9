"""Verification: a cell's outputs against those of its network in fp32 PyTorch eager. A wrong engine has no speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from harness.system.counts import counted
from harness.system.errors import CellError
from harness.techniques.arch.stages import ONE_STAGE, NetworkOutputs, Router, all_heads, routed
from harness.techniques.levels import HALF_TOLERANCE, Precision

if TYPE_CHECKING:
    from harness.config import HarnessConfig
    from harness.networks.data.labelled import Labelled
    from harness.networks.inputs import Inputs
    from harness.techniques.arch.assembled import Network

VERIFY_SEED_OFFSET = 7919  # verification inputs are never the timed ones
MOST_REFERENCES = 4  # a batch of 256 images is 154 MB


@dataclass(frozen=True)
class Expected:
    """The reference: every head of the network for the verification inputs, [N, ...] float32."""

    inputs: Mapping[str, np.ndarray]  # [N, ...] by name
    heads: dict[str, np.ndarray]
    left_after: np.ndarray | None = None  # [N] int: the stage after which each leaves; None: there is only one
    router: Router = ONE_STAGE  # that decided it


_references: dict[tuple[object, ...], Expected] = {}


def reference(net: Network, config: HarnessConfig, data: Labelled | None = None) -> Expected:
    """Return all heads of a network in fp32 eager, for inputs of one batch that are never timed; the last few are kept.

    Of labelled data these are validation images where it has some, and never those that scales are chosen on: a trained
    network's statistics are those of images, and noise may drive its activations to where fp16 ends.

    Two cells of a quartet are the same network, and so are cells of other quartets; a large batch takes a CPU long.
    """
    real = data.validation if data is not None else None
    key = (net.identity.exact, net.stages[0].inputs.specs, net.router, config.batch_size, config.data.seed, real)
    found = _references.pop(key, None) or _reference(net, config, data)
    _references[key] = found  # the most recently used is last
    while len(_references) > MOST_REFERENCES:
        del _references[next(iter(_references))]
    return found


def _reference(net: Network, config: HarnessConfig, data: Labelled | None) -> Expected:
    import torch

    taken = net.stages[0].inputs
    if data is None or data.validation is None:
        inputs = _inputs(taken, config.batch_size, config.data.seed + VERIFY_SEED_OFFSET)
    else:
        inputs = {taken.names[0]: data.validation.batch(data.verification_images(config.batch_size))}
    with torch.inference_mode():
        values = [torch.from_numpy(inputs[name]) for name in taken.names]
        heads = {name: value.numpy() for name, value in all_heads(net.stages, values).items()}
    return Expected(inputs, heads, routed(heads, net.router).left_after, net.router)


@lru_cache(maxsize=2)
def _inputs(taken: Inputs, batch_size: int, seed: int) -> Mapping[str, np.ndarray]:
    """Return what cells of the same inputs are verified with: in memory once, however many cells there are."""
    return taken.arrays(batch_size, seed)


@dataclass(frozen=True)
class Fidelity:
    """How close a cell's outputs are to the reference, over all heads."""

    max_abs: float
    max_relative: float  # max_abs over the largest magnitude of the reference
    cosine: float  # the lowest over heads
    top1_agreement: (
        float | None
    )  # share of samples (of [B, T, C], of places), over all heads; None: there are no scores
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
        if not (
            error <= precision.tolerance * scale and head_cosine >= precision.min_cosine
        ):  # so that NaN is wrong, too
            raise CellError(
                f"wrong output: {name!r} is off by {error / scale:.2g} of its range (cosine {head_cosine:.4f}); "
                f"{precision.name} explains at most {precision.tolerance:g} (cosine {precision.min_cosine:g})"
            )
        worst_abs, worst_relative = max(worst_abs, error), max(worst_relative, error / scale)
        cosine = min(cosine, head_cosine)
        if reference.ndim > 1:  # of what has no scores there is no best one
            agreements.append(float((got.argmax(-1) == reference.argmax(-1)).mean()))
    routing = {}
    if outputs.left_after is not None and expected.left_after is not None:
        routing = expected.router.fidelity_metrics(outputs.left_after, expected.left_after)
        _check_routing(outputs, outputs.left_after)
    return Fidelity(worst_abs, worst_relative, cosine, float(np.mean(agreements)) if agreements else None, routing)


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
