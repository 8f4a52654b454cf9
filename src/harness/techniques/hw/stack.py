"""The techniques that are on, in the one order they are applied in."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from harness.config import HarnessConfig, HwConfig, packages
from harness.networks.own_code import of_another_package
from harness.system.errors import UserError
from harness.techniques.levels import HasCapabilities, Levels, off

if TYPE_CHECKING:
    from torch import nn

ORDER = tuple(packages.OURS[packages.HW])
ALONE = ("identity", "compiled")  # these stack with nothing


class HwTechnique(Protocol):
    """What a technique's file offers."""

    name: str

    def check(self, options: Any, config: HarnessConfig, engine: HasCapabilities | None) -> None:
        """Raise UserError if `options` can't be built on `engine` (None: on any); cheap."""

    def apply(self, levels: Levels, options: Any, config: HarnessConfig) -> Levels:
        """Return `levels` with what the technique switches on."""


def order() -> tuple[str, ...]:
    """Return all techniques in the order they are applied in; other packages' come last, or where `before` says."""
    out = list(ORDER)
    for name, module in packages.added_techniques(packages.HW).items():
        before = getattr(module, "before", None)
        if before not in (None, *ORDER):
            raise UserError(f"technique {name}: its before={before!r} is not one of {', '.join(ORDER)}")
        out.insert(out.index(before) if before else len(out), name)
    return tuple(out)


def technique(name: str) -> HwTechnique:
    """Return the technique called `name`, one of `order()`; raises KeyError for anything else."""
    return cast(HwTechnique, packages.load(packages.HW, name))


def enabled(config: HwConfig) -> tuple[str, ...]:
    """Return the names of the techniques that are on, in the order they are applied."""
    return tuple(name for name in order() if hasattr(config, name) and getattr(config, name).enabled)


def check_stack(config: HarnessConfig, engine: HasCapabilities | None) -> None:
    """Raise UserError if the stack can't be built on `engine` (None: on any) or its techniques exclude each other."""
    stack = enabled(config.hw)
    for name in ALONE:
        if name in stack and len(stack) > 1:
            raise UserError(f"hw=[{','.join(stack)}]: {name} can't be combined with other techniques; use it alone.")
    for name in stack:
        with of_another_package(packages.HW, name, "check"):
            technique(name).check(getattr(config.hw, name), config, engine)
    if engine is not None:
        required = apply_stack(base_levels(config), config).precision
        known = engine.capabilities.precisions
        if required.name not in {precision.name for precision in known}:
            names = ", ".join(precision.name for precision in known)
            why = engine.capabilities.lacking.get(required.name)
            raise UserError(
                f"hw=[{','.join(stack)}]: engine {engine.name} has no {required.name}{f' ({why})' if why else ''}; "
                f"it has {names}."
            )


def check_network(model: nn.Module, config: HarnessConfig) -> None:
    """Raise UserError where a technique that is on has nothing to work on in this network."""
    for name in enabled(config.hw):
        check = getattr(technique(name), "check_network", None)
        if check is not None:
            with of_another_package(packages.HW, name, "check_network"):
                check(model, getattr(config.hw, name))


def base_levels(config: HarnessConfig) -> Levels:
    """Return the levels of cells without hardware techniques: all off, but for what an A/A control has in all cells."""
    levels = off(config.batch_size)
    over = config.hw.identity.over if config.hw.identity.enabled else ()
    for name in (name for name in order() if name in over):
        levels = _applied(name, levels, config)
    return levels


def apply_stack(levels: Levels, config: HarnessConfig) -> Levels:
    """Return the levels after all techniques that are on."""
    for name in enabled(config.hw):
        levels = _applied(name, levels, config)
    return levels


def on_engine(levels: Levels, engine: HasCapabilities) -> Levels:
    """Return the levels with the precision in the form that an engine takes; they may differ in how a graph has it."""
    for precision in engine.capabilities.precisions:
        if precision.name == levels.precision.name:
            return replace(levels, precision=precision)
    return levels


def _applied(name: str, levels: Levels, config: HarnessConfig) -> Levels:
    with of_another_package(packages.HW, name, "apply"):
        changed = technique(name).apply(levels, getattr(config.hw, name), config)
    if not isinstance(changed, Levels):
        raise UserError(
            f"{packages.described(packages.HW, name)}: its apply returns {type(changed).__name__}, "
            "not harness.techniques.levels.Levels"
        )
    return changed


def flat_options(config: HwConfig) -> dict[str, object]:
    """Return the options of the techniques that are on, as `hw.fp16.io`, without the switch itself."""
    return {
        f"hw.{name}.{option}": value
        for name in enabled(config)
        for option, value in asdict(getattr(config, name)).items()
        if option != "enabled"
    }
