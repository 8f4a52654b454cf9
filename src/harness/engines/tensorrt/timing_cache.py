"""TensorRT's timing cache on disk: what one build timed, the next one takes, so that it is faster and chooses alike.

One file for each GPU, compute capability and TensorRT version, which are what timings hold for; all sweeps share it.
A pinned cache is only read, and a build that would have to time a kernel fails.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.engines.base import BuildPlan
from harness.engines.tensorrt.flavour import Flavour, LocalGpu, sm_text
from harness.system.errors import CellError
from harness.system.files import write_whole


def path_of(flavour: Flavour, plan: BuildPlan, gpu: LocalGpu | None) -> Path | None:
    """Return the file for this plan on this GPU, or None where there is to be none."""
    if not (flavour.timing_cache and plan.timing_dir and gpu):
        return None
    name = re.sub(r"[^A-Za-z0-9]+", "-", gpu.name).strip("-")
    return Path(plan.timing_dir) / f"{name}_sm{sm_text(gpu.compute_capability)}_{flavour.module().__version__}.timing"


def is_pinned(plan: BuildPlan) -> bool:
    """Whether a build of this plan must find all its timings."""
    return dict(plan.options).get("timing_cache") == "pinned"


def missing(path: Path) -> str:
    """Return what to say of a pinned cache that is not there."""
    return f"engine.timing_cache_pinned=true: there is no {path}; build once without it."


def attach(flavour: Flavour, config: Any, path: Path, pinned: bool) -> str:
    """Give the builder the cache at `path`; return "pinned", "warm" or "new". Raise CellError for a pinned one.

    An absent, foreign or damaged one starts empty, unless it is pinned.
    """
    with _lock(path):
        saved = path.read_bytes() if path.is_file() else b""
    if pinned and not saved:
        raise CellError(missing(path))
    cache = config.create_timing_cache(saved)
    # False: another GPU, driver or version made it, and timings from there would choose the wrong kernels.
    taken = cache is not None and config.set_timing_cache(cache, False)
    if pinned:
        if not taken:
            raise CellError(
                f"engine.timing_cache_pinned=true: {flavour.title} rejects {path}, which was made elsewhere"
            )
        config.set_flag(flavour.module().BuilderFlag.ERROR_ON_TIMING_CACHE_MISS)
        return "pinned"
    if not taken:
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return "warm" if saved and taken else "new"


def keep(config: Any, path: Path) -> None:
    """Write what the builder timed, with what others wrote meanwhile, in one step: a reader sees all or nothing."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    with _lock(path):
        if path.is_file():
            others = config.create_timing_cache(path.read_bytes())
            if others is not None:
                cache.combine(others, False)  # False if they are foreign: they are then replaced
        write_whole(path, bytes(cache.serialize()))


def _lock(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f"{path.name}.lock"))
