"""What only this family can be asked for, checked before any work: tiling, profiles, timing cache."""

from __future__ import annotations

from harness.engines.base import BuildPlan
from harness.engines.tensorrt.flavour import Flavour
from harness.engines.tensorrt.versions import TILING
from harness.system.errors import UserError

TILINGS = ("none", "fast", "moderate", "full")


def check_options(flavour: Flavour, plan: BuildPlan) -> None:
    """Raise UserError for an option that this flavour or release does not have, and for profiles that don't fit."""
    options = dict(plan.options)
    tiling = options.get("tiling")
    if tiling is not None and not TILING.present(flavour.module()):
        raise UserError(
            f"engine.tiling={tiling}: {flavour.title} {flavour.module().__version__} has no tiling, "
            f"{TILING.since} or newer has; leave it out."
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
    held = {size for one in plan.profiles for size in range(one.min_size, one.max_size + 1)}
    wanted = set(range(batch.min_size, batch.max_size + 1))
    if held != wanted:
        first = min(held ^ wanted)
        where = "is in none of them" if first in wanted else "is outside"
        raise UserError(
            f"engine.profiles must hold the dynamic batch {batch.min_size}..{batch.max_size} exactly, and {first} "
            f"{where}: change them, or hw.dynamic_batching.{{min,opt,max}}_batch_size."
        )
