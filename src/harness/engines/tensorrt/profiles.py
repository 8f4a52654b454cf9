"""Optimisation profiles: the ranges of batch size an engine is tuned for, and which one a batch runs in.

NVIDIA TensorRT documentation, "Working with Dynamic Shapes", Optimization Profiles: kernels are chosen for a profile's
opt size, so a wide range is faster in several profiles than in one. Tensor names are the same in all of them.
"""

from __future__ import annotations

from harness.engines.base import BuildPlan
from harness.techniques.levels import BatchProfile


def profiles_of(plan: BuildPlan) -> tuple[BatchProfile, ...]:
    """Return the profiles of a plan, in the engine's order; a static batch is one, which the engine makes by itself."""
    return plan.profiles or (plan.batch,)


def choose(profiles: tuple[BatchProfile, ...], batch_size: int) -> int:
    """Return the index of the profile that holds `batch_size` with the nearest opt; the first of equals.

    A size in none of them is the caller's to refuse: there would be no buffers for it either.
    """
    holding = [index for index, one in enumerate(profiles) if one.min_size <= batch_size <= one.max_size]
    return min(holding, key=lambda index: abs(profiles[index].opt_size - batch_size))


def in_words(plan: BuildPlan) -> str:
    """Return "static 4" or "dynamic 1/4/8, 8/16/32"."""
    if plan.batch.is_static:
        return f"static {plan.batch.opt_size}"
    return "dynamic " + ", ".join(f"{one.min_size}/{one.opt_size}/{one.max_size}" for one in profiles_of(plan))
