"""TensorRT's timing cache on disk: measured kernel timings that make the next build faster."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any


def use(config: Any, path: Path) -> None:
    """Give the builder the cache at `path`; an absent, foreign or damaged one starts empty."""
    saved = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(saved)
    # False: another GPU, driver or version made it, and timings from there would choose the wrong kernels.
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def save(config: Any, path: Path) -> None:
    """Write what the builder has now, in one step, so that a reader never sees half of it."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "wb") as file:
        file.write(cache.serialize())
    os.replace(temporary, path)
