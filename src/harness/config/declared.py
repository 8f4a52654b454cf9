"""The groups `arch`, `hw` and `engine`: each technique and each engine declares its own options.

A technique has a class of options, which the config holds as `arch.NAME.FIELD`; the options of all engines are held
under flat names, `engine.NAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from harness.config import packages
from harness.config.ranges import Range, Ranges, at_least, one_of, positive
from harness.system.errors import UserError

if TYPE_CHECKING:
    from harness.techniques.levels import Levels

Made = TypeVar("Made")
ARCH_OPTIONS = "harness.techniques.arch.options"  # named as an entry point names a module: imported when it is needed


@dataclass
class Switch:
    """A technique without options."""

    enabled: bool = False


@dataclass
class ArchConfig:
    """All architecture techniques, always present; a group choice switches one on. `arch_off()` makes one."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


@dataclass
class HwConfig:
    """All hardware techniques, always present; a group choice switches one on."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


@dataclass
class EngineConfig:
    """Which engine, on which device, and its own options."""

    name: str = "auto"  # which engine; auto: the first in order of preference that can run every cell of the sweep
    device: str = "auto"  # auto | cpu | cuda; auto: a GPU that torch sees, else the CPU
    devices: Any = "one"  # GPUs that a sweep is spread over: one | all | their numbers, as 0,1
    build_only: bool = False  # build all engines into the cache, measure nothing
    compute_capability: str | None = None  # build for this chip, e.g. "8.9"; None: the one that is here
    threads: int | None = None  # intra-op threads on a CPU; None: the physical cores this process may use
    build_limit_s: float = 1800.0  # a build that passes it is stopped; TensorRT then tries the next lower level
    build_jobs: int | None = None  # processes that build ahead; None: a quarter of the cores, at most 8

    def option(self, name: str) -> Any:
        """Return the value of an option that an engine declares."""
        return getattr(self, name)


def _names_devices(value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    whole = all(type(number) is int and number >= 0 for number in numbers)
    return value in ("one", "all") or bool(numbers and whole and len(set(numbers)) == len(numbers))


ENGINE_RANGES: Ranges = {
    "device": one_of("auto", "cpu", "cuda"),
    "devices": Range(_names_devices, "choose one, all, or numbers of GPUs, each once, as 0,1"),
    "threads": at_least(1),
    "build_limit_s": positive("must be a positive number of seconds"),
    "build_jobs": at_least(1),
}


@dataclass(frozen=True)
class EngineOption:
    """An option `engine.NAME` as an engine declares it. Engines that share a name share its type and default."""

    name: str
    kind: Any  # its type, as the field of a config has it: `int | None`
    meaning: str
    default: Any = None
    range: Range | None = None
    needs: str = ""  # what the user reads after "engine.NAME needs" where no cell reads it
    reads: Callable[[Levels], bool] = lambda levels: True  # whether a cell with these levels reads it


def declared(engine: str) -> tuple[EngineOption, ...]:
    """Return the options of an engine; none of another package's that can't be imported, which says so when chosen."""
    try:
        return tuple(packages.load(packages.ENGINES, engine).options)
    except UserError:
        return ()


@cache
def engine_options() -> Mapping[str, Mapping[str, EngineOption]]:
    """Return all declared options by name, each by engine; raise UserError where two declarations contradict."""
    common = {field_.name for field_ in fields(EngineConfig)}
    found: dict[str, dict[str, EngineOption]] = {}
    for engine in packages.names(packages.ENGINES):
        for option in declared(engine):
            before = found.setdefault(option.name, {})
            if option.name in common:
                raise UserError(f"engine {engine} declares engine.{option.name}, which every engine has already.")
            for earlier, known in before.items():
                if (known.kind, known.default) != (option.kind, option.default):
                    raise UserError(
                        f"engines {earlier} and {engine} declare engine.{option.name} with different types or defaults."
                    )
            before[engine] = option
    return found


def engine_ranges() -> Ranges:
    """Return the ranges of the group: those of every engine, and those that engines declare."""
    options = [option for by_engine in engine_options().values() for option in by_engine.values()]
    declared_ranges = {option.name: option.range for option in options if option.range is not None}
    return {**ENGINE_RANGES, **declared_ranges}


@cache
def arch_config_type() -> type[ArchConfig]:
    """Return `ArchConfig` with a field for each technique, those of other packages last."""
    others = {name: module.Options for name, module in packages.added_techniques(packages.ARCH).items()}
    return _made(ArchConfig, _techniques({**import_module(ARCH_OPTIONS).OPTIONS, **others}))


@cache
def hw_config_type() -> type[HwConfig]:
    """Return `HwConfig` with a field for each technique, those of other packages last."""
    ours = {name: packages.load(packages.HW, name) for name in packages.ours(packages.HW)}
    modules = {**ours, **packages.added_techniques(packages.HW)}
    return _made(HwConfig, _techniques({name: module.Options for name, module in modules.items()}))


@cache
def engine_config_type() -> type[EngineConfig]:
    """Return `EngineConfig` with a field for each option that an engine declares."""
    declarations = [next(iter(by_engine.values())) for by_engine in engine_options().values()]
    return _made(EngineConfig, [(option.name, option.kind, field(default=option.default)) for option in declarations])


def arch_off() -> ArchConfig:
    """Return the options with every technique off."""
    return arch_config_type()()


def _techniques(options: Mapping[str, type]) -> list[tuple[str, Any, Any]]:
    return [(name, kind, field(default_factory=kind)) for name, kind in options.items()]


def _made(base: type[Made], declarations: Iterable[tuple[str, Any, Any]]) -> type[Made]:
    """Return `base` with these fields, under the name by which `__getattr__` finds it."""
    name = f"{base.__name__}WithOptions"
    return make_dataclass(name, declarations, bases=(base,), namespace={"__module__": __name__})


def __getattr__(name: str) -> Any:
    """Return a class that was made here: where pickle looks for it, in whatever process."""
    made = {"ArchConfig": arch_config_type, "HwConfig": hw_config_type, "EngineConfig": engine_config_type}
    if name.removesuffix("WithOptions") in made and name.endswith("WithOptions"):
        return made[name.removesuffix("WithOptions")]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
