"""Engines: export, build, cache, load, run, profile.

Engines: compiler plus runtime, each behind one contract (`base.py`); looked up here by name, once.
"""

from __future__ import annotations

from harness.config import packages
from harness.engines.base import Engine
from harness.system.errors import UserError

# `engine=auto` takes the first of these that can run every cell; Inductor pays off on a GPU
PREFERENCE = {
    "cuda": ("tensorrt", "tensorrt_rtx", "inductor", "onnxruntime"),
    "cpu": ("tensorrt", "tensorrt_rtx", "onnxruntime"),
}


def names() -> tuple[str, ...]:
    """Return the names of all engines, other packages' last."""
    return packages.names(packages.ENGINES)


def register_choices() -> None:
    """Tell Hydra of the engines of other packages; ours have files in conf/engine."""
    from hydra.core.config_store import ConfigStore

    for name in packages.added(packages.ENGINES):
        ConfigStore.instance().store(name=name, node={"name": name}, group="engine", package="engine")


def get(name: str) -> Engine:
    """Return the engine of that name; raise UserError for an unknown one, and for what is not an engine."""
    if name not in names():
        raise UserError(f"unknown engine {name!r}: choose one of {', '.join(names())}, or auto.")
    engine = packages.load(packages.ENGINES, name)
    if not isinstance(engine, Engine):
        raise UserError(f"engine {name}: it is of type {type(engine).__name__}, not a harness.engines.base.Engine.")
    if engine.name != name:
        raise UserError(f"engine {name}: it calls itself {engine.name!r}; both names must be the same.")
    return engine
