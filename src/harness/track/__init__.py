"""MLflow: the store, the runs of a sweep, the shipped view, `load`. Importing this does not import MLflow."""

from __future__ import annotations

from harness.track.runs import (
    QuartetRecord,
    children,
    finish,
    finish_sweep,
    log_quartet,
    start_quartet,
    start_sweep,
)
from harness.track.store import Store, open_store, resolve_uri

__all__ = [
    "QuartetRecord",
    "Store",
    "children",
    "finish",
    "finish_sweep",
    "log_quartet",
    "open_store",
    "resolve_uri",
    "start_quartet",
    "start_sweep",
]
