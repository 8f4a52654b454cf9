"""Tracking: MLflow's store, outbox, views, load.

MLflow: the store, the runs of a sweep, the shipped view, `load`. Importing this does not import MLflow.
"""

from __future__ import annotations

from harness.results.row import QuartetRecord
from harness.tracking.runs import (
    NOTE_TAG,
    children,
    end_killed,
    finish,
    finish_sweep,
    log_family_verdict,
    log_quartet,
    move,
    start_quartet,
    start_sweep,
    sweeps,
)
from harness.tracking.store import Store, exclusive, find_store, open_store
from harness.tracking.view import install_views, view_url

__all__ = [
    "NOTE_TAG",
    "QuartetRecord",
    "Store",
    "children",
    "end_killed",
    "exclusive",
    "find_store",
    "finish",
    "finish_sweep",
    "install_views",
    "log_family_verdict",
    "log_quartet",
    "move",
    "open_store",
    "start_quartet",
    "start_sweep",
    "sweeps",
    "view_url",
]
