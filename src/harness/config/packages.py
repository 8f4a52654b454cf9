"""The registry: models, techniques, engines and scenarios by name, ours and other packages' alike.

Each is registered as an entry point names it, and imported on first use. Other packages' entry points are read from
their metadata; ours stand here, so that a source tree that was never installed has them too. Groups and what an entry
names: docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.system.errors import UserError
from harness.system.places import HardExit, restored_places

MODELS, ENGINES, SCENARIOS = "harness.networks", "harness.engines", "harness.scenarios"
ARCH, HW = "harness.techniques.arch", "harness.techniques.hw"
_OFFERS = ("name", "Options", "check", "apply")  # of a technique's module

# Hardware techniques in the order they are applied in: precision first (it changes the graph), then shape, then what
# the engine does with both. Architecture techniques are listed with their options, `techniques/arch/options.py`.
OURS: Mapping[str, Mapping[str, str]] = {
    HW: {
        "identity": "harness.techniques.hw.identity",
        "compiled": "harness.techniques.hw.compiled",
        "fp16": "harness.techniques.hw.fp16",
        "bf16": "harness.techniques.hw.bf16",
        "int8": "harness.techniques.hw.int8",
        "dynamic_batching": "harness.techniques.hw.dynamic_batching",
        "fusion": "harness.techniques.hw.fusion",
    },
    ENGINES: {
        "eager": "harness.engines.eager:EAGER",
        "onnxruntime": "harness.engines.onnxruntime:ONNXRUNTIME",
        "inductor": "harness.engines.inductor:INDUCTOR",
        "tensorrt": "harness.engines.tensorrt:TENSORRT",
        "tensorrt_rtx": "harness.engines.tensorrt:TENSORRT_RTX",
    },
    SCENARIOS: {
        "fixed": "harness.sweep.scenarios.fixed:Fixed",
        "single_stream": "harness.sweep.scenarios.under_load:SingleStream",
        "offline": "harness.sweep.scenarios.under_load:Offline",
        "server": "harness.sweep.scenarios.under_load:Server",
    },
}


def ours(group: str) -> Mapping[str, str]:
    """Return what we register in a group: name -> "module" or "module:attribute"."""
    if group == ARCH:
        return {name: f"{ARCH}.{name}" for name in import_module(f"{ARCH}.options").OPTIONS}
    return OURS.get(group, {})


@cache
def registered(group: str) -> dict[str, EntryPoint]:
    """Return all entries of a group by name, ours first; raise UserError where one name is registered twice."""
    out = {name: EntryPoint(name, value, group) for name, value in ours(group).items()}
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        known = out.get(entry.name)
        if known is not None and known.dist is None:
            raise UserError(
                f"{_package(entry)} registers {entry.name!r} as {group}, which is built in; it needs another name."
            )
        if known is not None and known.value != entry.value:
            raise UserError(
                f"two packages register {entry.name!r} as {group}: {known.value} and {entry.value}; "
                "uninstall one of them."
            )
        if not entry.name.isidentifier():
            raise UserError(f"{_package(entry)} registers {entry.name!r} as {group}; a name is letters, digits and _.")
        out[entry.name] = entry
    return out


def names(group: str) -> tuple[str, ...]:
    """Return all names of a group, other packages' last."""
    return tuple(registered(group))


def added(group: str, taken: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names that other packages add to a group; raise UserError for one that is taken."""
    others = {name: entry for name, entry in registered(group).items() if name not in ours(group)}
    for name in set(others).intersection(taken):
        raise UserError(
            f"{_package(others[name])} registers {name!r} as {group}, which is built in; it needs another name."
        )
    return tuple(others)


def load(group: str, name: str) -> Any:
    """Import and return what a name refers to; raise UserError with the reason where another package's fails."""
    entry = registered(group)[name]
    if name in ours(group):
        return entry.load()
    try:
        with restored_places():
            return entry.load()
    except (Exception, SystemExit) as error:  # another package's module may raise anything, or end the program
        how = "os._exit" if isinstance(error, HardExit) else type(error).__name__
        raise UserError(f"{name} of {_package(entry)} ({entry.value}) can't be imported: {how}: {error}") from error


@cache
def added_techniques(group: str) -> Mapping[str, Any]:
    """Return the modules of other packages' techniques by name; raise UserError for one that lacks what it must offer.

    `--help` imports them too, to know their options: they should import torch within their functions.
    """
    return {name: _checked(name, load(group, name)) for name in added(group)}


def _checked(name: str, module: Any) -> Any:
    missing = [part for part in _OFFERS if not hasattr(module, part)]
    if missing:
        raise UserError(f"technique {name}: its module offers no {', '.join(missing)}; it needs {', '.join(_OFFERS)}")
    if module.name != name:
        raise UserError(f"technique {name}: its module calls itself {module.name!r}; both names must be the same")
    options = module.Options
    if not is_dataclass(options) or getattr(options(), "enabled", None) is not False:  # type: ignore[operator]
        raise UserError(f"technique {name}: its Options must be a dataclass with `enabled: bool = False`")
    return module


def described(group: str, name: str) -> str:
    """Return an entry's kind, name and package: "technique my_technique of package my-package"."""
    entry = registered(group).get(name)
    kind = group.removeprefix("harness.").partition(".")[0].removesuffix("s")
    return f"{kind} {name}" + (f" of {_package(entry)}" if entry is not None else "")


def model_source(model: str) -> list[str]:
    """Return the Python module of a model that is `module:function` or an entry; none for ours or a library's."""
    if ":" in model:
        return [model.partition(":")[0]]
    return [registered(MODELS)[model].module] if model in registered(MODELS) else []


def _package(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist is not None else "a package"
