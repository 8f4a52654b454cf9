"""The options of the groups `engine` and `batch`, and the one policy for TF32.

Each engine declares its own options (`EngineOption`); the group `engine` holds those of all of them under flat names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.config import packages
from harness.config.ranges import Range, Ranges, at_least, one_of, positive
from harness.system.errors import UserError

if TYPE_CHECKING:
    from harness.techniques.levels import Levels


@dataclass
class EngineConfig:
    """Which engine, on which device, and its own options."""

    name: str = "auto"  # auto: the first in order of preference that can run every cell of the sweep
    device: str = "auto"  # auto | cpu | cuda
    build_only: bool = False  # build and cache, measure nothing
    compute_capability: str | None = None  # build for this chip, e.g. "8.9"; None: the one that is here
    threads: int | None = None  # intra-op threads on a CPU; None: the physical cores this process may use
    build_limit_s: float = 1800.0  # a build that passes it is stopped; TensorRT then tries the next lower level
    build_jobs: int | None = None  # processes that build ahead; None: a quarter of the cores, at most 8

    def option(self, name: str) -> Any:
        """Return the value of an option that an engine declares."""
        return getattr(self, name)


ENGINE_RANGES: Ranges = {
    "device": one_of("auto", "cpu", "cuda"),
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
    common = {one.name for one in fields(EngineConfig)}
    found: dict[str, dict[str, EngineOption]] = {}
    for engine in packages.names(packages.ENGINES):
        for option in declared(engine):
            before = found.setdefault(option.name, {})
            if option.name in common:
                raise UserError(f"engine {engine} declares engine.{option.name}, which every engine has already.")
            for other, known in before.items():
                if (known.kind, known.default) != (option.kind, option.default):
                    raise UserError(
                        f"engines {other} and {engine} declare engine.{option.name} with different types or defaults."
                    )
            before[engine] = option
    return found


def engine_ranges() -> Ranges:
    """Return the ranges of the group: those of every engine, and those that engines declare."""
    own = {name: one.range for name, by in engine_options().items() for one in by.values() if one.range is not None}
    return {**ENGINE_RANGES, **own}


@cache
def engine_config_type() -> type[EngineConfig]:
    """Return `EngineConfig` with a field for each option that an engine declares."""
    first = [next(iter(by.values())) for by in engine_options().values()]
    own = [(one.name, one.kind, field(default=one.default)) for one in first]
    return make_dataclass(_EXTENDED, own, bases=(EngineConfig,), namespace={"__module__": __name__})


_EXTENDED = "EngineConfigWithOptions"


def __getattr__(name: str) -> Any:
    if name == _EXTENDED:  # where pickle looks for the class that `engine_config_type` makes
        return engine_config_type()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass
class PrecisionConfig:
    """One TF32 policy for all four cells."""

    tf32: bool = False  # let fp32 products use TF32 on a GPU


@dataclass
class ProfileConfig:
    """Dynamic-shape profile, where hw.dynamic_batching says nothing. None: 1, batch_size, 2 * batch_size."""

    min_batch_size: int | None = None  # of a dynamic engine
    opt_batch_size: int | None = None  # of a dynamic engine
    max_batch_size: int | None = None  # of a dynamic engine
