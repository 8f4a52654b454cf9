"""What is registered: our engines, and what packages add (models, techniques, engines, scenarios) by entry points.

Groups and what an entry names: docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.system.errors import UserError

MODELS, ARCH, ENGINES = "harness.networks", "harness.techniques.arch", "harness.engines"
SCENARIOS = "harness.scenarios"

# ours, as an entry point would name them; imported on first use, so that a missing GPU package costs nothing
OURS: Mapping[str, Mapping[str, str]] = {
    ENGINES: {
        "eager": "harness.engines.eager:EAGER",
        "onnxruntime": "harness.engines.onnxruntime:ONNXRUNTIME",
        "inductor": "harness.engines.inductor:INDUCTOR",
        "tensorrt": "harness.engines.tensorrt:TENSORRT",
        "tensorrt_rtx": "harness.engines.tensorrt:TENSORRT_RTX",
    }
}


@cache
def found(group: str) -> dict[str, EntryPoint]:
    """Return the entries of a group by name, sorted; raise UserError where two packages use one name."""
    out: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda one: (one.name, one.value)):
        if entry.name in out and entry.value != out[entry.name].value:
            raise UserError(
                f"two packages register {entry.name!r} as {group}: {out[entry.name].value} and {entry.value}; "
                "uninstall one of them."
            )
        out[entry.name] = entry
    return out


def names(group: str) -> tuple[str, ...]:
    """Return all names of a group, other packages' last."""
    ours = OURS.get(group, {})
    return (*ours, *added(group, ours))


def added(group: str, ours: Collection[str]) -> tuple[str, ...]:
    """Return the names that other packages add to a group; raise UserError for one that `ours` has already."""
    for name, entry in found(group).items():
        if name in ours:
            raise UserError(f"{_package(entry)} registers {name!r} as {group}, which is ours; it needs another name.")
        if not name.isidentifier():
            raise UserError(f"{_package(entry)} registers {name!r} as {group}; a name is letters, digits and _.")
    return tuple(found(group))


def load(group: str, name: str) -> Any:
    """Import and return what a name stands for; raise UserError with the reason where that fails."""
    if name in OURS.get(group, {}):
        module, _, attribute = OURS[group][name].partition(":")
        return getattr(import_module(module), attribute)
    entry = found(group)[name]
    try:
        return entry.load()
    except Exception as error:  # somebody else's module may raise anything
        raise UserError(
            f"{name} of {_package(entry)} ({entry.value}) can't be imported: {type(error).__name__}: {error}"
        ) from error


def model_source(model: str) -> list[str]:
    """Return the Python module of a model that is `module:function` or an entry; none for ours or a library's."""
    if ":" in model:
        return [model.partition(":")[0]]
    return [found(MODELS)[model].module] if model in found(MODELS) else []


def _package(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist is not None else "a package"
