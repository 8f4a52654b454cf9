"""Optimisation profiles: the ranges of batch size an engine is tuned for, and which one a batch runs in.

NVIDIA TensorRT documentation, "Working with Dynamic Shapes", Optimization Profiles: kernels are chosen for a profile's
opt size, so a wide range is faster in several profiles than in one. Tensor names are the same in all of them.
"""

from __future__ import annotations

from harness.engines.base import BuildPlan
from harness.engines.tensorrt.flavour import TILING, Flavour
from harness.system.errors import UserError
from harness.techniques.levels import BatchProfile


def profiles_of(plan: BuildPlan) -> tuple[BatchProfile, ...]:
    """Return the profiles of a plan, in the engine's order; a static batch is one, which the engine makes by itself."""
    return plan.profiles or (plan.batch,)


def choose(profiles: tuple[BatchProfile, ...], batch_size: int) -> int:
    """Return the index of the profile that holds `batch_size` with the nearest opt; the first of equals.

    A size in none of them is the caller's to refuse: there would be no buffers for it either.
    """
    holding = [index for index, sizes in enumerate(profiles) if sizes.min_size <= batch_size <= sizes.max_size]
    return min(holding, key=lambda index: abs(profiles[index].opt_size - batch_size))


def in_words(plan: BuildPlan) -> str:
    """Return "static 4" or "dynamic 1/4/8, 8/16/32"."""
    if plan.batch.is_static:
        return f"static {plan.batch.opt_size}"
    return "dynamic " + ", ".join(f"{sizes.min_size}/{sizes.opt_size}/{sizes.max_size}" for sizes in profiles_of(plan))


TILINGS = ("none", "fast", "moderate", "full")


def check_options(flavour: Flavour, plan: BuildPlan) -> None:
    """Raise UserError for an option that this flavour or release does not have, and for profiles that don't fit."""
    options = dict(plan.options)
    tiling = options.get("tiling")
    if tiling is not None and not TILING.present(flavour.module()):
        raise UserError(
            f"engine.tiling={tiling}: {flavour.title} {flavour.module().__version__} has no tiling, "
            f"{TILING.since} or newer does; leave it out."
        )
    if options.get("timing_cache") == "pinned" and not flavour.timing_cache:
        raise UserError(
            f"engine.timing_cache_pinned=true: {flavour.title} has no timing cache; drop it, or use engine=tensorrt."
        )
    check_profiles(plan)


def check_profiles(plan: BuildPlan) -> None:
    """Raise UserError unless batch sizes rise, and the profiles hold every size of the batch and no other."""
    batch = plan.batch
    if not 1 <= batch.min_size <= batch.opt_size <= batch.max_size:
        sizes = f"{batch.min_size}/{batch.opt_size}/{batch.max_size}"
        raise UserError(f"batch sizes min/opt/max are {sizes}: they must be at least 1 and must not decrease")
    if not plan.profiles:
        return
    held = {size for sizes in plan.profiles for size in range(sizes.min_size, sizes.max_size + 1)}
    required = set(range(batch.min_size, batch.max_size + 1))
    if held != required:
        first = min(held ^ required)
        where = "is in none of them" if first in required else "is outside"
        raise UserError(
            f"engine.profiles must hold the dynamic batch {batch.min_size}..{batch.max_size} exactly, and {first} "
            f"{where}: change them, or hw.dynamic_batching.{{min,opt,max}}_batch_size."
        )
