"""Engines: export, build, cache, load, run, profile.

Engines: compiler plus runtime, each behind one contract (`base.py`); looked up here by name, once.
"""

from __future__ import annotations

from importlib import import_module

from harness.config import packages
from harness.engines.base import Engine
from harness.system.errors import UserError

# name -> "module:attribute"; imported on first use, so that a missing GPU package costs nothing
_ENGINES: dict[str, str] = {
    "eager": "harness.engines.eager:EAGER",
    "onnxruntime": "harness.engines.onnxruntime:ONNXRUNTIME",
    "inductor": "harness.engines.inductor:INDUCTOR",
    "tensorrt": "harness.engines.tensorrt:TENSORRT",
    "tensorrt_rtx": "harness.engines.tensorrt:TENSORRT_RTX",
}

# `engine=auto` takes the first of these that can run every cell; Inductor pays off on a GPU
PREFERENCE = {
    "cuda": ("tensorrt", "tensorrt_rtx", "inductor", "onnxruntime"),
    "cpu": ("tensorrt", "tensorrt_rtx", "onnxruntime"),
}


def names() -> tuple[str, ...]:
    """Return the names of all engines, other packages' last."""
    return (*_ENGINES, *packages.names(packages.ENGINES, _ENGINES))


def register_choices() -> None:
    """Tell Hydra of the engines of other packages; ours have files in conf/engine."""
    from hydra.core.config_store import ConfigStore

    for name in packages.names(packages.ENGINES, _ENGINES):
        ConfigStore.instance().store(name=name, node={"name": name}, group="engine", package="engine")


def get(name: str) -> Engine:
    """Return the engine of that name; raise UserError for an unknown one."""
    if name in packages.names(packages.ENGINES, _ENGINES):
        other: Engine = packages.load(packages.ENGINES, name)
        return other
    if name not in _ENGINES:
        raise UserError(f"unknown engine {name!r}: choose one of {', '.join(names())}, or auto.")
    module, _, attribute = _ENGINES[name].partition(":")
    engine: Engine = getattr(import_module(module), attribute)
    return engine
